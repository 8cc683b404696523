"""What a process knows of who is who: it tells who calls by what came with the call, and says who it is itself."""

from __future__ import annotations

import base64
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shop_services.runtime.identity.caller import ANONYMOUS, Caller, Person, Role, Service
from shop_services.runtime.identity.keys import IDENTITY, Keys, MemoryKeys, PublicKey
from shop_services.runtime.identity.opening import key_directory, signing_key
from shop_services.runtime.identity.tokens import SHOP, Kind, Token, check, expired, invalid, sign
from shop_services.runtime.settings import Settings
from shop_services.runtime.tls import DOMAIN, OPERATOR

AUTHORIZATION = "authorization"
"""The metadata key of a token."""
SERVICE_TTL = 300.0
"""Seconds that a service's token is good; it is renewed at half of that."""
FOR_OTHERS = frozenset({"gateway", OPERATOR})
"""Certificates whose holders call for somebody else, whom a token names; by themselves they are nobody."""

REMEMBERED = 10_000
"""Tokens that were checked and are still good, at most: a signature costs some 100 µs, and each call brings a token."""

_SUFFIX = f".{DOMAIN}"

Credentials = Callable[[], Sequence[tuple[str, str]]]
"""The metadata that says who calls, asked for at each call."""


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    expires: float
    key: PublicKey


class Authority:
    """Who is who, for the service `name`. It has no tasks, and nothing to close.

    With `certificates`, services are known by those of their connections, and service tokens are not used at all.
    """

    def __init__(
        self, name: str, keys: Keys, *, certificates: bool = False, clock: Callable[[], float] = time.time
    ) -> None:
        self.name = name
        self.keys = keys
        self.certificates = certificates
        """Whether a service is whom its certificate names: `identify` then wants to know the names in it."""
        self._clock = clock
        self._audiences = {Kind.ACCESS: SHOP} if certificates else {Kind.ACCESS: SHOP, Kind.SERVICE: name}
        self._known = OrderedDict[str, _Known]()

    @classmethod
    def open(cls, settings: Settings, name: str, clock: Callable[[], float] = time.time) -> Authority:
        """The authority of the service `name`, on the keys that the settings name. Raises `SettingError`."""
        return cls(name, key_directory(settings, clock), certificates=settings.tls_dir is not None, clock=clock)

    @classmethod
    def in_memory(cls, name: str, clock: Callable[[], float] = time.time) -> Authority:
        """An authority with new keys, that nobody else has; see `sibling`."""
        return cls(name, MemoryKeys(clock), clock=clock)

    def sibling(self, name: str) -> Authority:
        """The authority of another service, on the same keys."""
        return Authority(name, self.keys, certificates=self.certificates, clock=self._clock)

    def __repr__(self) -> str:
        return f"<Authority of {self.name} on {self.keys!r}, {len(self._known)} tokens known>"

    def identify(self, metadata: Iterable[tuple[str, str | bytes]] | None, peer_names: Sequence[str] = ()) -> Caller:
        """Who sent `metadata`, over a connection whose certificate has `peer_names`.

        Raises:
            Unauthenticated: a token is there and no good: TOKEN_EXPIRED, or TOKEN_INVALID without a word on why.
            Unavailable: the keys cannot be read.
        """
        sent: str | bytes | None = None
        for key, value in metadata or ():
            if key == AUTHORIZATION:
                if sent is not None:
                    raise invalid()
                sent = value
        if sent is None:
            return _named(peer_names) if self.certificates else ANONYMOUS
        if not isinstance(sent, str):
            raise invalid()
        known = self._known.get(sent)
        if known is None:
            return self._learn(sent)
        if known.expires <= self._clock():
            del self._known[sent]
            raise expired()
        if self.keys.public(known.key.name) is not known.key:
            del self._known[sent]
            raise invalid()
        self._known.move_to_end(sent)
        return known.caller

    def credentials_for(self, service: str) -> Credentials:
        """What calls of this service to `service` carry. Raises `SettingError` if there is no key to sign it with."""
        if self.certificates:
            return tuple
        signing_key(self.keys, self.name)
        return renewed(lambda: self._service_token(service), self._clock)

    def jwks(self) -> dict[str, Any]:
        """The public keys that check access tokens, as RFC 7517 and RFC 8037 write them."""
        return {"keys": [_jwk(key) for key in self.keys.published(IDENTITY)]}

    def _learn(self, sent: str) -> Caller:
        scheme, _, token = sent.partition(" ")
        if scheme.lower() != "bearer":
            raise invalid()
        found = check(token, self._audiences, self.keys, self._clock())
        caller = _caller(found)
        self._known[sent] = _Known(caller, found.expires, found.key)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return caller

    def _service_token(self, service: str) -> tuple[str, float]:
        now = self._clock()
        expires = int(now + SERVICE_TTL)
        claims = {"iss": self.name, "sub": self.name, "aud": service, "iat": int(now), "exp": expires}
        return sign(Kind.SERVICE, claims, self.keys.signing(self.name)), expires


def bearer(token: str) -> tuple[tuple[str, str]]:
    """The metadata that carries a token."""
    return ((AUTHORIZATION, f"Bearer {token}"),)


def renewed(make: Callable[[], tuple[str, float]], clock: Callable[[], float]) -> Credentials:
    """Credentials of a token that `make` returns with the time of its end; a new one is made at half of its life."""
    metadata: Sequence[tuple[str, str]] = ()
    begun = until = 0.0

    def credentials() -> Sequence[tuple[str, str]]:
        nonlocal metadata, begun, until
        now = clock()
        if not begun <= now < until:
            token, expires = make()
            metadata, begun, until = bearer(token), now, (now + expires) / 2
        return metadata

    return credentials


def _caller(token: Token) -> Caller:
    subject = token.text("sub")
    if token.kind is Kind.ACCESS:
        try:
            return Person(subject, Role(token.text("role")))
        except ValueError as error:
            raise invalid() from error
    if subject != token.claims["iss"]:
        raise invalid()
    return Service(subject)


def _named(names: Iterable[str]) -> Caller:
    services = {name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX)} - FOR_OTHERS
    # A certificate that stands for several services says nothing of which one calls.
    return Service(services.pop()) if len(services) == 1 else ANONYMOUS


def _jwk(key: PublicKey) -> dict[str, str]:
    point = base64.urlsafe_b64encode(key.key.public_bytes(Encoding.Raw, PublicFormat.Raw)).rstrip(b"=")
    return {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": key.name.id, "x": point.decode()}
