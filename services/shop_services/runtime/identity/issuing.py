"""Tokens for people. Whoever holds the private key of `identity` makes them: the user service, and the operator."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from shop_services.runtime.identity.caller import Role
from shop_services.runtime.identity.keys import IDENTITY, Keys
from shop_services.runtime.identity.opening import key_directory, signing_key
from shop_services.runtime.identity.tokens import REFRESHING, SHOP, Kind, check, sign
from shop_services.runtime.settings import Settings


@dataclass(frozen=True, slots=True)
class Issued:
    """A new token, and when it expires in seconds since 1970."""

    token: str = field(repr=False)
    expires: float


@dataclass(frozen=True, slots=True)
class Refresh:
    """What a good refresh token says: whose it is, the login that it belongs to, its own id, and when it expires."""

    user_id: str
    sid: str
    jti: str = field(repr=False)
    expires: float


class Issuer:
    """Makes access and refresh tokens, and reads the latter. `access_ttl` and `refresh_ttl` are seconds."""

    def __init__(
        self, keys: Keys, access_ttl: float, refresh_ttl: float, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys = keys
        self._access_ttl = access_ttl
        self._refresh_ttl = refresh_ttl
        self._clock = clock

    @classmethod
    def open(cls, settings: Settings, clock: Callable[[], float] = time.time) -> Issuer:
        """The issuer of the keys that the settings name. Raises `SettingError` if there is none to sign with."""
        keys = key_directory(settings, clock)
        signing_key(keys, IDENTITY)
        return cls(keys, settings.access_ttl, settings.refresh_ttl, clock)

    def access(self, user_id: str, role: Role, ttl: float | None = None) -> Issued:
        """A token that its holder is identified by; for `ttl` seconds, or as the settings say."""
        claims = {"aud": SHOP, "role": role.value, "jti": secrets.token_hex(8)}
        return self._issue(Kind.ACCESS, user_id, claims, self._access_ttl if ttl is None else ttl)

    def refresh(self, user_id: str, sid: str, jti: str) -> Issued:
        """A token, with the id `jti`, that new ones of the login `sid` are given for."""
        return self._issue(Kind.REFRESH, user_id, {"aud": REFRESHING, "sid": sid, "jti": jti}, self._refresh_ttl)

    def read_refresh(self, token: str) -> Refresh:
        """What a refresh token says. Raises `Unauthenticated`: TOKEN_EXPIRED, TOKEN_INVALID."""
        found = check(token, {Kind.REFRESH: REFRESHING}, self._keys, self._clock())
        return Refresh(found.text("sub"), found.text("sid"), found.text("jti"), found.expires)

    def _issue(self, kind: Kind, user_id: str, claims: dict[str, str], ttl: float) -> Issued:
        now = self._clock()
        # Whole seconds, as everybody expects of a JWT; the end is not put off by that.
        times = {"iat": int(now), "exp": int(now + ttl)}
        token = sign(kind, {"iss": IDENTITY, "sub": user_id, **claims, **times}, self._keys.signing(IDENTITY))
        return Issued(token, float(times["exp"]))
