"""Tokens: claims in JSON that are signed, as RFC 7519 and RFC 8725 ("JWT Best Current Practices") have them.

There is one algorithm, and no token is asked which. What kind a token is stands in its header as `typ`, and each kind
has one owner of keys and one audience, so that none passes for another.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import jwt

from shop_services.runtime.errors import Unauthenticated
from shop_services.runtime.identity.keys import IDENTITY, KeyName, Keys, PrivateKey, PublicKey

SHOP = "shop"
"""The audience of access tokens: every service."""
REFRESHING = "shop/refresh"
"""The audience of refresh tokens: nobody but who made them."""

LEEWAY = 5.0
"""Seconds by which the clock of who signs may be ahead. None is given at the end of a token's life."""
MAX_LENGTH = 4096
"""Characters of a token that is looked at."""

_ALGORITHM = "EdDSA"
_SIGNATURES = jwt.PyJWS(algorithms=[_ALGORITHM])


class Kind(StrEnum):
    """What a token is for: the `typ` of its header. RFC 9068 names the first."""

    ACCESS = "at+jwt"
    REFRESH = "rt+jwt"
    SERVICE = "st+jwt"


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was checked: its claims, when it expires (seconds since 1970), and the key that signed it."""

    kind: Kind
    claims: Mapping[str, Any] = field(repr=False)
    expires: float
    key: PublicKey

    def text(self, claim: str) -> str:
        """A claim that must be a text, and not empty. Raises `Unauthenticated`."""
        value = self.claims.get(claim)
        if not isinstance(value, str) or not value:
            raise invalid()
        return value


def invalid() -> Unauthenticated:
    """What is said of every token that is no good, whatever is wrong with it."""
    return Unauthenticated("the token is not valid", reason="TOKEN_INVALID")


def expired() -> Unauthenticated:
    """What is said of a token that was good once."""
    return Unauthenticated("the token has expired", reason="TOKEN_EXPIRED")


def sign(kind: Kind, claims: Mapping[str, Any], key: PrivateKey) -> str:
    """A token with these claims."""
    payload = json.dumps(claims, separators=(",", ":")).encode()
    return _SIGNATURES.encode(payload, key.key, _ALGORITHM, {"typ": kind.value, "kid": key.name.id})


def check(token: str, audiences: Mapping[Kind, str], keys: Keys, now: float) -> Token:
    """The token, if it is of one of these kinds and for that audience, and if its issuer's key signed it.

    Raises:
        Unauthenticated: it is not, or it has expired; the reasons are TOKEN_INVALID and TOKEN_EXPIRED.
    """
    if len(token) > MAX_LENGTH:
        raise invalid()
    header, claims = _opened(token)
    kind = _kind(header.get("typ"))
    if kind is None or kind not in audiences:
        raise invalid()
    issuer = claims.get("iss")
    # A service vouches for itself, and nobody but `identity` for people.
    if (issuer == IDENTITY) is (kind is Kind.SERVICE):
        raise invalid()
    # What the token says of its key is no more than where to look: the key that is there was put by its owner.
    name = KeyName.of(issuer, header.get("kid"))
    key = keys.public(name) if name else None
    if key is None:
        raise invalid()
    try:
        _SIGNATURES.decode_complete(token, key.key, algorithms=[_ALGORITHM])
    except (jwt.PyJWTError, ValueError) as error:
        raise invalid() from error
    issued, expires = _time(claims, "iat"), _time(claims, "exp")
    begins = _time(claims, "nbf") if "nbf" in claims else issued
    if claims.get("aud") != audiences[kind] or max(issued, begins) > now + LEEWAY:
        raise invalid()
    if expires <= now:
        raise expired()
    return Token(kind, claims, expires, key)


def _opened(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the claims as they stand there, which is no proof of anything."""
    try:
        parts = _SIGNATURES.decode_complete(token, options={"verify_signature": False})
        claims = json.loads(parts["payload"])
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise invalid() from error
    if not isinstance(claims, dict):
        raise invalid()
    return parts["header"], claims


def _kind(typ: object) -> Kind | None:
    return next((kind for kind in Kind if kind.value == typ), None)


def _time(claims: Mapping[str, Any], name: str) -> float:
    """A claim that must be a NumericDate."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        raise invalid()
    return float(value)
