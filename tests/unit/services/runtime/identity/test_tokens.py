"""A token is good if its issuer signed it, for this audience and this use, and not too long ago: nothing else is."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from shop_services.runtime.errors import Unauthenticated
from shop_services.runtime.identity.keys import IDENTITY, KeyName, MemoryKeys, PrivateKey
from shop_services.runtime.identity.tokens import LEEWAY, MAX_LENGTH, REFRESHING, SHOP, Kind, check, sign
from tests.unit.services.runtime.identity.clock import NOON, Clock

AUDIENCES = {Kind.ACCESS: SHOP, Kind.REFRESH: REFRESHING, Kind.SERVICE: "user"}
ACCESS = {"iss": IDENTITY, "sub": "u1", "aud": SHOP, "role": "admin", "iat": int(NOON), "exp": int(NOON) + 600}
REFRESH = {"iss": IDENTITY, "sub": "u1", "aud": REFRESHING, "sid": "s", "iat": int(NOON), "exp": int(NOON) + 600}
SERVICE = {"iss": "order", "sub": "order", "aud": "user", "iat": int(NOON), "exp": int(NOON) + 300}

KEYS = MemoryKeys(Clock())
BY_IDENTITY, BY_ORDER = KEYS.signing(IDENTITY), KEYS.signing("order")

Header = Mapping[str, Any]
Signer = Callable[[bytes], bytes]


def part(value: object) -> bytes:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def made(header: Header, claims: object, signer: Signer) -> str:
    """A token put together by hand."""
    text = part(header) + b"." + part(claims)
    return (text + b"." + part(signer(text))).decode()


def header_of(kind: Kind = Kind.ACCESS, key: PrivateKey = BY_IDENTITY, **more: Any) -> dict[str, Any]:
    return {"alg": "EdDSA", "typ": kind.value, "kid": key.name.id} | more


def reason(token: str, now: float = NOON, audiences: Mapping[Kind, str] = AUDIENCES) -> str:
    """Why it is refused."""
    with pytest.raises(Unauthenticated) as refused:
        check(token, audiences, KEYS, now)
    assert token[:20] not in str(refused.value)
    return refused.value.reason


@pytest.mark.parametrize(
    ("kind", "claims", "key"),
    [
        (Kind.ACCESS, ACCESS, BY_IDENTITY),
        (Kind.REFRESH, REFRESH, BY_IDENTITY),
        (Kind.SERVICE, SERVICE, BY_ORDER),
    ],
)
def test_each_kind_is_good_for_what_it_is(kind: Kind, claims: dict[str, Any], key: PrivateKey) -> None:
    """It says what was put into it, and who signed it; as no other kind it is any good."""
    token = sign(kind, claims, key)
    found = check(token, AUDIENCES, KEYS, NOON)
    assert (found.kind, found.claims, found.expires, found.key.name) == (kind, claims, claims["exp"], key.name)
    others = {other: audience for other, audience in AUDIENCES.items() if other is not kind}
    assert reason(token, audiences=others) == "TOKEN_INVALID"
    for other in others:
        assert reason(sign(other, claims, key)) == "TOKEN_INVALID"


def test_a_token_ends_to_the_second() -> None:
    """An expired one is told from one that never was any good, and only if it was."""
    token = sign(Kind.ACCESS, ACCESS, BY_IDENTITY)
    assert check(token, AUDIENCES, KEYS, NOON + 599.9).kind is Kind.ACCESS
    assert reason(token, NOON + 600) == "TOKEN_EXPIRED"
    forged = sign(Kind.ACCESS, ACCESS, PrivateKey.new(BY_IDENTITY.name))
    assert reason(forged, NOON + 600) == "TOKEN_INVALID"


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_clock_may_be_ahead_by_seconds(claim: str) -> None:
    """A token from the near future is good, one from a later one is not."""
    near, far = ({**ACCESS, claim: NOON + LEEWAY + more} for more in (0, 1))
    assert check(sign(Kind.ACCESS, near, BY_IDENTITY), AUDIENCES, KEYS, NOON).claims == near
    assert reason(sign(Kind.ACCESS, far, BY_IDENTITY)) == "TOKEN_INVALID"


@pytest.mark.parametrize("alg", ["none", "None", "NONE", ""])
@pytest.mark.parametrize("signature", [b"", b"x" * 64])
def test_no_signature_is_no_token(alg: str, signature: bytes) -> None:
    """`alg` says nothing to who checks it."""
    assert reason(made(header_of(alg=alg), ACCESS, lambda _: signature)) == "TOKEN_INVALID"


@pytest.mark.parametrize("form", ["raw", "pem"])
def test_a_public_key_is_no_secret_to_sign_with(form: str) -> None:
    """HS256 with the key that everybody can read is refused."""
    public = BY_IDENTITY.public.key
    encoding = (Encoding.Raw, PublicFormat.Raw) if form == "raw" else (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    secret = public.public_bytes(*encoding)
    forged = made(header_of(alg="HS256"), ACCESS, lambda text: hmac.new(secret, text, hashlib.sha256).digest())
    assert reason(forged) == "TOKEN_INVALID"


def test_a_token_brings_no_key_of_its_own() -> None:
    """What `jwk`, `jku` and `x5c` say is not looked at; nor is another algorithm of EdDSA's family."""
    own = PrivateKey.new(BY_IDENTITY.name)
    point = part(own.public.key.public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": point}
    forged = made(header_of(jwk=jwk, jku="https://example.com", x5c=["x"]), ACCESS, own.key.sign)
    assert reason(forged) == "TOKEN_INVALID"
    assert reason(made(header_of(), ACCESS, Ed448PrivateKey.generate().sign)) == "TOKEN_INVALID"
    es256 = jwt.encode(ACCESS, generate_private_key(SECP256R1()), "ES256", header_of(alg="ES256"))
    assert reason(es256) == "TOKEN_INVALID"


def test_a_key_signs_for_its_owner_alone() -> None:
    """A service can neither vouch for people nor for another service, and `identity` for no service."""
    for claims in (ACCESS, {**ACCESS, "iss": "order"}):
        assert reason(sign(Kind.ACCESS, claims, BY_ORDER)) == "TOKEN_INVALID"
    other = KEYS.signing("cache")
    for issuer in ("order", "cache", IDENTITY, "../public/order", None, 7):
        token = made(header_of(Kind.SERVICE, BY_ORDER), {**SERVICE, "iss": issuer}, other.key.sign)
        assert reason(token) == "TOKEN_INVALID"
    by_identity = {**SERVICE, "iss": IDENTITY, "sub": IDENTITY}
    assert reason(sign(Kind.SERVICE, by_identity, BY_IDENTITY)) == "TOKEN_INVALID"


@pytest.mark.parametrize("key_id", ["20200101T000000Z-000000", "", "../x", None, 1, ["a"]])
def test_an_unknown_key_is_none(key_id: object) -> None:
    """Nor is a key id that is none, or that is missing."""
    assert reason(made(header_of(kid=key_id), ACCESS, BY_IDENTITY.key.sign)) == "TOKEN_INVALID"
    header = header_of()
    del header["kid"]
    assert reason(made(header, ACCESS, BY_IDENTITY.key.sign)) == "TOKEN_INVALID"


@pytest.mark.parametrize("typ", [None, "JWT", "jwt", "AT+JWT", "application/at+jwt", 1, ["at+jwt"]])
def test_a_token_says_what_it_is_for(typ: object) -> None:
    """One without a type, or of the general one, is for nothing here."""
    assert reason(made(header_of(typ=typ), ACCESS, BY_IDENTITY.key.sign)) == "TOKEN_INVALID"


@pytest.mark.parametrize("audience", [REFRESHING, "order", "", None, [SHOP], {"a": SHOP}, "shop/"])
def test_a_token_for_others_is_none_for_us(audience: object) -> None:
    """The audience is one text, exactly."""
    assert reason(sign(Kind.ACCESS, {**ACCESS, "aud": audience}, BY_IDENTITY)) == "TOKEN_INVALID"


@pytest.mark.parametrize("claim", ["iat", "exp", "nbf"])
@pytest.mark.parametrize("value", ["1790000000", True, None, float("nan"), float("inf"), -1, 1e300, [1], 2**53])
def test_a_time_is_a_number_of_seconds(claim: str, value: object) -> None:
    """A token whose times are none is refused, though it is signed; so is one that never ends."""
    assert reason(sign(Kind.ACCESS, {**ACCESS, claim: value}, BY_IDENTITY)) == "TOKEN_INVALID"


@pytest.mark.parametrize(
    "claims", [b"", b"[]", b"1", b'"x"', b"{", b"\xff", b"[" * 3000, b'{"exp":' + b"9" * 3000 + b"}"]
)
def test_claims_are_an_object(claims: bytes) -> None:
    """What is signed and makes no sense is refused like the rest."""
    assert reason(made(header_of(), claims, BY_IDENTITY.key.sign)) == "TOKEN_INVALID"


def test_a_long_token_is_not_looked_at() -> None:
    """However good it is."""
    token = sign(Kind.ACCESS, {**ACCESS, "more": "x" * MAX_LENGTH}, BY_IDENTITY)
    assert reason(token) == "TOKEN_INVALID"


def test_a_header_that_demands_to_be_understood_is_refused() -> None:
    """RFC 7515: whoever does not know what `crit` names must not take the token."""
    for more in ({"crit": ["x"], "x": 1}, {"b64": False, "crit": ["b64"]}):
        assert reason(made(header_of() | more, ACCESS, BY_IDENTITY.key.sign)) == "TOKEN_INVALID"


GOOD = sign(Kind.ACCESS, ACCESS, BY_IDENTITY)


@given(st.integers(0, len(GOOD) - 1), st.characters(codec="utf-8"))
def test_no_character_can_be_changed(place: int, character: str) -> None:
    """A token with one other character is none."""
    changed = GOOD[:place] + character + GOOD[place + 1 :]
    if changed != GOOD:
        assert reason(changed) == "TOKEN_INVALID"


@given(st.one_of(st.text(), st.binary().map(lambda raw: part(raw).decode()), st.lists(st.text()).map(".".join)))
def test_any_text_is_refused_in_one_way(text: str) -> None:
    """Nothing that is sent as a token makes another error than this one."""
    with pytest.raises(Unauthenticated) as refused:
        check(text, AUDIENCES, KEYS, NOON)
    assert refused.value.reason == "TOKEN_INVALID"


def test_a_removed_key_takes_its_tokens_along() -> None:
    """They are refused from then on."""
    keys = MemoryKeys(Clock())
    name = keys.signing(IDENTITY).name
    token = sign(Kind.ACCESS, ACCESS, keys.signing(IDENTITY))
    assert check(token, AUDIENCES, keys, NOON).key.name == name
    keys.remove(name)
    with pytest.raises(Unauthenticated):
        check(token, AUDIENCES, keys, NOON)


def test_what_a_token_says_is_not_shown() -> None:
    """Its claims are personal, and kept out of `repr`."""
    found = check(GOOD, AUDIENCES, KEYS, NOON)
    assert "u1" not in repr(found)
    assert isinstance(found.key.name, KeyName)
