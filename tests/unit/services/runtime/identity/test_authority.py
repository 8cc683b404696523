"""Who calls, by what came with the call, and what goes along with calls of one's own."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import jwt
import pytest

from shop_services.runtime.errors import Unauthenticated
from shop_services.runtime.identity import authority as module
from shop_services.runtime.identity.authority import SERVICE_TTL, Authority, bearer
from shop_services.runtime.identity.caller import ANONYMOUS, Caller, Person, Role, Service
from shop_services.runtime.identity.directory import KeyDirectory
from shop_services.runtime.identity.issuing import Issuer
from shop_services.runtime.identity.keys import IDENTITY, KNOWN_AFTER, MemoryKeys
from shop_services.runtime.identity.tokens import Kind, sign
from shop_services.runtime.settings import SettingError, Settings
from tests.unit.services.runtime.identity.clock import NOON, Clock


@pytest.fixture
def user(clock: Clock) -> Authority:
    """The user service's."""
    return Authority.in_memory("user", clock)


def access(authority: Authority, role: Role = Role.CUSTOMER, ttl: float = 600) -> str:
    return Issuer(authority.keys, ttl, 3600, authority._clock).access("u1", role).token


def reason(authority: Authority, *metadata: tuple[str, str | bytes]) -> str:
    with pytest.raises(Unauthenticated) as refused:
        authority.identify(metadata)
    return refused.value.reason


@pytest.mark.parametrize("metadata", [None, (), [("x-request-id", "r"), ("user-agent", "grpc")]])
def test_who_sends_no_token_is_nobody(user: Authority, metadata: list[tuple[str, str | bytes]] | None) -> None:
    """That is no error: some calls are anyone's."""
    assert user.identify(metadata) is ANONYMOUS


def test_a_person_is_who_the_token_says(user: Authority) -> None:
    """With the role that they had when it was made, again and again."""
    metadata = [("x-request-id", "r"), *bearer(access(user))]
    assert user.identify(metadata) == Person("u1", Role.CUSTOMER)
    assert user.identify(metadata) is user.identify(metadata)
    assert user.identify(bearer(access(user, Role.ADMIN))) == Person("u1", Role.ADMIN)


@pytest.mark.parametrize("scheme", ["bearer", "BEARER"])
def test_the_scheme_is_read_as_http_has_it(user: Authority, scheme: str) -> None:
    """Without regard to case: RFC 9110."""
    assert user.identify([("authorization", f"{scheme} {access(user)}")]) == Person("u1", Role.CUSTOMER)


def test_what_is_no_bearer_token_is_refused(user: Authority) -> None:
    """Also what nearly is one, and two at once: it is not for us to choose."""
    token = access(user)
    for sent in (token, "", "Bearer", "Bearer ", f"Basic {token}", f"Bearer  {token}", f"Bearer {token} ", "Bearer é"):
        assert reason(user, ("authorization", sent)) == "TOKEN_INVALID"
    assert reason(user, ("authorization", f"Bearer {token}".encode())) == "TOKEN_INVALID"
    assert reason(user, *bearer(token), *bearer(token)) == "TOKEN_INVALID"
    assert reason(user, ("authorization", ""), *bearer(token)) == "TOKEN_INVALID"


def test_a_role_that_nobody_has_is_refused(user: Authority) -> None:
    """Also if the token is signed."""
    claims = {"iss": IDENTITY, "sub": "u1", "aud": "shop", "iat": NOON, "exp": NOON + 60}
    for more in ({}, {"role": "root"}, {"role": ["admin"]}, {"role": "admin", "sub": ""}, {"role": "admin", "sub": 1}):
        token = sign(Kind.ACCESS, {**claims, **more}, user.keys.signing(IDENTITY))
        assert reason(user, *bearer(token)) == "TOKEN_INVALID"


def test_a_remembered_token_expires(user: Authority, clock: Clock) -> None:
    """What was good a moment ago is checked again for what may have changed since."""
    metadata = bearer(access(user, ttl=60))
    assert user.identify(metadata) == Person("u1", Role.CUSTOMER)
    clock.now += 60
    assert reason(user, *metadata) == "TOKEN_EXPIRED"
    assert reason(user, *metadata) == "TOKEN_EXPIRED"


def test_a_remembered_token_dies_with_its_key(user: Authority) -> None:
    """Removing a key refuses what it signed, seen before or not."""
    metadata = bearer(access(user))
    assert user.identify(metadata) == Person("u1", Role.CUSTOMER)
    assert isinstance(user.keys, MemoryKeys)
    user.keys.remove(user.keys.signing(IDENTITY).name)
    assert reason(user, *metadata) == "TOKEN_INVALID"


def test_what_is_remembered_has_a_bound(user: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token that was used longest ago is forgotten first, and is checked anew when it comes again."""
    monkeypatch.setattr(module, "REMEMBERED", 2)
    one, two, three = (bearer(access(user)) for _ in range(3))
    for metadata in (one, two, one, three):
        assert user.identify(metadata) == Person("u1", Role.CUSTOMER)
    assert list(user._known) == [one[0][1], three[0][1]]
    assert user.identify(two) == Person("u1", Role.CUSTOMER)


def test_what_was_refused_is_not_remembered(user: Authority) -> None:
    """Whoever sends nonsense takes no room."""
    for number in range(50):
        assert reason(user, *bearer(f"x.{number}.z")) == "TOKEN_INVALID"
    assert not user._known


def test_services_know_each_other(user: Authority) -> None:
    """A service's token says which it is, to the service that it is for."""
    order = user.sibling("order")
    assert user.identify(order.credentials_for("user")()) == Service("order")
    assert reason(user, *order.credentials_for("product")()) == "TOKEN_INVALID"
    assert reason(order, *order.credentials_for("user")()) == "TOKEN_INVALID"


def test_a_service_speaks_for_itself_alone(user: Authority) -> None:
    """Its token has no other subject."""
    claims = {"iss": "order", "sub": "cache", "aud": "user", "iat": NOON, "exp": NOON + 60}
    assert reason(user, *bearer(sign(Kind.SERVICE, claims, user.keys.signing("order")))) == "TOKEN_INVALID"


def test_another_shops_keys_are_not_ours(user: Authority, clock: Clock) -> None:
    """Neither for people nor for services."""
    stranger = Authority.in_memory("order", clock)
    assert reason(user, *bearer(access(stranger))) == "TOKEN_INVALID"
    assert reason(user, *stranger.credentials_for("user")()) == "TOKEN_INVALID"


def test_a_service_token_is_renewed_at_half_of_its_life(user: Authority, clock: Clock) -> None:
    """Until then the same one goes along with every call, so that the other side remembers it."""
    credentials = user.sibling("order").credentials_for("user")
    first = credentials()
    clock.now += SERVICE_TTL / 2 - 1
    assert credentials() is first
    clock.now += 1
    second = credentials()
    assert second != first
    assert user.identify(second) == Service("order")
    clock.now -= 3600
    assert user.identify(credentials()) == Service("order")


def test_rotation_refuses_nobody(user: Authority, clock: Clock) -> None:
    """Whatever is signed at any moment of it is good everywhere."""
    assert isinstance(user.keys, MemoryKeys)
    credentials = user.sibling("order").credentials_for("user")
    known = set()
    for second in range(int(3 * SERVICE_TTL)):
        if second == 10:
            user.keys.add("order")
            user.keys.add(IDENTITY)
        clock.now = NOON + second
        assert user.identify(credentials()) == Service("order")
        assert user.identify(bearer(access(user))) == Person("u1", Role.CUSTOMER)
        known.add(jwt.get_unverified_header(credentials()[0][1].removeprefix("Bearer "))["kid"])
    assert len(known) == 2


def test_the_published_keys_check_access_tokens(user: Authority, clock: Clock) -> None:
    """Any other implementation of JWT can: RFC 7517, RFC 8037. Services' keys are not among them."""
    assert isinstance(user.keys, MemoryKeys)
    user.sibling("order").credentials_for("user")
    first = access(user)
    clock.now += 60
    user.keys.add(IDENTITY)
    clock.now += KNOWN_AFTER
    second = access(user)
    published = jwt.PyJWKSet.from_dict(json.loads(json.dumps(user.jwks())))
    assert len(published.keys) == 2
    for token in (first, second):
        key = published[jwt.get_unverified_header(token)["kid"]]
        options: jwt.types.Options = {"verify_exp": False, "verify_iat": False}
        claims = jwt.decode(token, key, ["EdDSA"], audience="shop", issuer=IDENTITY, options=options)
        assert (claims["sub"], claims["role"]) == ("u1", "customer")
    assert all(set(key) == {"kty", "crv", "use", "alg", "kid", "x"} for key in user.jwks()["keys"])
    assert len(base64.urlsafe_b64decode(user.jwks()["keys"][0]["x"] + "=")) == 32


def test_no_secret_is_shown(user: Authority) -> None:
    """Neither keys nor tokens."""
    token = access(user)
    user.identify(bearer(token))
    assert repr(user) == "<Authority of user on <MemoryKeys 1>, 1 tokens known>"


@pytest.mark.parametrize(
    ("names", "caller"),
    [
        (["order.shop.internal", "localhost", "127.0.0.1"], Service("order")),
        (["gateway.shop.internal"], ANONYMOUS),
        (["operator.shop.internal", "localhost"], ANONYMOUS),
        (["localhost"], ANONYMOUS),
        ([], ANONYMOUS),
        (["order.shop.internal", "cache.shop.internal"], ANONYMOUS),
        (["order.shop.internal.example.com"], ANONYMOUS),
    ],
)
def test_under_tls_a_service_is_its_certificate(clock: Clock, names: list[str], caller: Caller) -> None:
    """Those who call for others are nobody by themselves, and so is who has several names."""
    authority = Authority("user", MemoryKeys(clock), certificates=True, clock=clock)
    assert authority.identify((), names) == caller
    assert authority.identify(bearer(access(authority)), names) == Person("u1", Role.CUSTOMER)


def test_under_tls_service_tokens_are_neither_sent_nor_taken(clock: Clock) -> None:
    """They would be a second way in."""
    plain = Authority.in_memory("user", clock)
    secured = Authority("user", plain.keys, certificates=True, clock=clock)
    assert list(secured.sibling("order").credentials_for("user")()) == []
    assert reason(secured, *plain.sibling("order").credentials_for("user")()) == "TOKEN_INVALID"


def test_without_tls_the_names_of_a_peer_say_nothing(user: Authority) -> None:
    """An authority that was not told to trust certificates trusts none."""
    assert user.identify((), ["order.shop.internal"]) is ANONYMOUS


def test_a_service_that_calls_nobody_needs_no_key(tmp_path: Path) -> None:
    """One that does says which is missing, when it starts."""
    (tmp_path / "keys").mkdir()
    authority = Authority.open(Settings(keys_dir=tmp_path / "keys"), "order")
    assert authority.identify(()) is ANONYMOUS
    with pytest.raises(SettingError, match=r"no key of order in .*/private; `shop keys init` makes"):
        authority.credentials_for("user")
    KeyDirectory(tmp_path / "keys").add("order")
    user = Authority.open(Settings(keys_dir=tmp_path / "keys"), "user")
    assert user.identify(authority.credentials_for("user")()) == Service("order")
