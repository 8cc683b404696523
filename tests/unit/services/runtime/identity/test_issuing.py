"""Tokens for people: what is in them, for how long, and who reads them."""

from __future__ import annotations

from pathlib import Path

import pytest

from shop_services.runtime.errors import Unauthenticated
from shop_services.runtime.identity.authority import Authority, bearer
from shop_services.runtime.identity.caller import Person, Role
from shop_services.runtime.identity.directory import KeyDirectory
from shop_services.runtime.identity.issuing import Issuer
from shop_services.runtime.identity.keys import IDENTITY, MemoryKeys
from shop_services.runtime.settings import SettingError, Settings
from tests.unit.services.runtime.identity.clock import NOON, Clock


@pytest.fixture
def issuer(keys: MemoryKeys | KeyDirectory, clock: Clock) -> Issuer:
    return Issuer(keys, 600, 3600, clock)


def test_an_access_token_tells_who_somebody_is(keys: MemoryKeys | KeyDirectory, issuer: Issuer, clock: Clock) -> None:
    """Every service on the same keys knows its holder and their role, until it expires."""
    issued = issuer.access("u1", Role.CUSTOMER)
    assert issued.expires == NOON + 600
    authority = Authority("user", keys, clock=clock)
    assert authority.identify(bearer(issued.token)) == Person("u1", Role.CUSTOMER)
    clock.now = issued.expires
    with pytest.raises(Unauthenticated, match="expired"):
        authority.identify(bearer(issued.token))


def test_an_access_token_may_be_good_for_another_time(issuer: Issuer) -> None:
    """The operator asks for it."""
    assert issuer.access("u1", Role.ADMIN, ttl=5).expires == NOON + 5


def test_a_refresh_token_tells_its_login_to_who_made_it(issuer: Issuer, clock: Clock) -> None:
    """It comes back as it was given, until it expires."""
    issued = issuer.refresh("u1", "login-1", "token-1")
    read = issuer.read_refresh(issued.token)
    assert (read.user_id, read.sid, read.jti, read.expires) == ("u1", "login-1", "token-1", NOON + 3600)
    assert "token-1" not in repr(read)
    clock.now += 3600
    with pytest.raises(Unauthenticated) as refused:
        issuer.read_refresh(issued.token)
    assert refused.value.reason == "TOKEN_EXPIRED"


def test_the_two_are_not_exchanged_for_each_other(
    keys: MemoryKeys | KeyDirectory, issuer: Issuer, clock: Clock
) -> None:
    """A refresh token identifies nobody, and no new tokens are given for an access token."""
    with pytest.raises(Unauthenticated) as refused:
        issuer.read_refresh(issuer.access("u1", Role.ADMIN).token)
    assert refused.value.reason == "TOKEN_INVALID"
    with pytest.raises(Unauthenticated) as refused:
        Authority("user", keys, clock=clock).identify(bearer(issuer.refresh("u1", "s", "t").token))
    assert refused.value.reason == "TOKEN_INVALID"


def test_no_two_tokens_are_the_same(issuer: Issuer) -> None:
    """Each has an id, so that it can be told from others of the same second."""
    assert issuer.access("u1", Role.CUSTOMER).token != issuer.access("u1", Role.CUSTOMER).token


def test_a_token_is_not_shown(issuer: Issuer) -> None:
    """Neither printing nor logging what was issued gives it away."""
    issued = issuer.access("u1", Role.CUSTOMER)
    assert issued.token not in repr(issued)


def test_the_embedded_shop_makes_its_key(tmp_path: Path) -> None:
    """In the directory of its data, once."""
    settings = Settings(data=tmp_path, access_ttl=60, refresh_ttl=120)
    token = Issuer.open(settings).access("u1", Role.ADMIN).token
    Issuer.open(settings)
    assert Authority.open(settings, "user").identify(bearer(token)) == Person("u1", Role.ADMIN)
    assert len(KeyDirectory(tmp_path / "keys").names(IDENTITY)) == 1


def test_a_directory_of_keys_that_is_given_has_them(tmp_path: Path) -> None:
    """None is made there: the error says where, and names the command that does."""
    with pytest.raises(SettingError, match=r"^SHOP_KEYS_DIR: there is no directory .*; `shop keys init` makes it$"):
        Issuer.open(Settings(keys_dir=tmp_path / "keys"))
    (tmp_path / "keys").mkdir()
    wanted = r"^SHOP_KEYS_DIR: there is no key of identity in .*/private; `shop keys init` makes what is missing$"
    with pytest.raises(SettingError, match=wanted):
        Issuer.open(Settings(keys_dir=tmp_path / "keys"))
    KeyDirectory(tmp_path / "keys").add(IDENTITY)
    assert Issuer.open(Settings(keys_dir=tmp_path / "keys")).access("u1", Role.ADMIN).token


def test_a_place_that_takes_no_files_is_a_reason_not_to_start(tmp_path: Path) -> None:
    """A file where the directory should be, say."""
    (tmp_path / "keys").touch()
    with pytest.raises(SettingError, match=r"^SHOP_KEYS_DIR: "):
        Issuer.open(Settings(data=tmp_path))
