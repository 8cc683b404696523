"""Tokens as somebody makes them who wants to be let in, written by hand: no library would sign most of them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shop_services.runtime.identity.directory import KeyDirectory
from shop_services.runtime.identity.keys import IDENTITY
from tests.integration.identity.shop import Shop

Sign = Callable[[bytes], bytes]


def encoded(data: bytes) -> str:
    """base64url, as JWTs have it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(header: Mapping[str, Any], claims: Any, sign: Sign) -> str:
    """A JWT of whatever is given."""
    text = ".".join(encoded(json.dumps(part).encode()) for part in (header, claims))
    return f"{text}.{encoded(sign(text.encode()))}"


class Forger:
    """Knows all about the shop, its private keys included, so that each token is wrong in one thing alone."""

    def __init__(self, shop: Shop, audience: str) -> None:
        self._shop = shop
        self._audience = audience
        self._keys = KeyDirectory(shop.settings.keys)
        self.identity = self._keys.signing(IDENTITY)
        self.order = self._keys.signing("order")

    def header(self, **changes: Any) -> dict[str, Any]:
        """The header of an access token; None takes a parameter away."""
        return _changed({"alg": "EdDSA", "typ": "at+jwt", "kid": self.identity.name.id}, changes)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """The claims of an admin's access token."""
        now = int(time.time())
        times = {"iat": now, "exp": now + 600}
        return _changed({"iss": IDENTITY, "sub": "boss", "role": "admin", "aud": "shop", "jti": "j1", **times}, changes)

    def good(self) -> str:
        """One that is let in: made as all the others are."""
        return token(self.header(), self.claims(), self.identity.key.sign)

    def expired(self) -> str:
        """One that was good a moment ago."""
        now = int(time.time())
        return token(self.header(), self.claims(iat=now - 601, exp=now - 1), self.identity.key.sign)

    def all(self) -> dict[str, str]:
        """By what is wrong with it, tokens that are none of ours, or not for this."""
        sign = self.identity.key.sign
        now = int(time.time())
        return {
            **self._of_other_keys(),
            **self._without_a_key(),
            "of another audience": token(self.header(), self.claims(aud="shop2"), sign),
            "of several audiences": token(self.header(), self.claims(aud=["shop", "shop2"]), sign),
            "of no audience": token(self.header(), self.claims(aud=None), sign),
            "a refresh token": self._shop.issuer.refresh("boss", "s1", "j1").token,
            "a refresh token that says it is none": token(self.header(), self.claims(aud="shop/refresh"), sign),
            "of a service, for another": self._shop.service("order", f"not-{self._audience}")[0][1][7:],
            "of no kind": token(self.header(typ=None), self.claims(), sign),
            "of any kind": token(self.header(typ="JWT"), self.claims(), sign),
            "without an end": token(self.header(), self.claims(exp=None), sign),
            "with an end that is no time": token(self.header(), self.claims(exp="tomorrow"), sign),
            "without an end, in JSON's words": token(self.header(), self.claims(exp=float("inf")), sign),
            "without a beginning": token(self.header(), self.claims(iat=None), sign),
            "of tomorrow": token(self.header(), self.claims(iat=now + 86_400, exp=now + 90_000), sign),
            "not good yet": token(self.header(), self.claims(nbf=now + 60), sign),
            "of nobody": token(self.header(), self.claims(sub=None), sign),
            "of a number": token(self.header(), self.claims(sub=7), sign),
            "without a role": token(self.header(), self.claims(role=None), sign),
            "with a made-up role": token(self.header(), self.claims(role="root"), sign),
            "with claims that are a list": token(self.header(), [self.claims()], sign),
            "with an extension that must be understood": token(
                self.header(crit=["b64"], b64=False), self.claims(), sign
            ),
            "of two texts": self.good().rpartition(".")[0],
            "of four texts": f"{self.good()}.AAAA",
            "empty": "",
            "nonsense": "a.b.c",
            "endless": self.good() + "A" * 5000,
        }

    def _of_other_keys(self) -> dict[str, str]:
        """Signed, but by none of the keys of `identity`."""
        own = Ed25519PrivateKey.generate()
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": encoded(own.public_key().public_bytes_raw())}
        head, body, signature = self.good().split(".")
        role = encoded(json.dumps(self.claims(sub="eve")).encode())
        by_order = {"kid": self.order.name.id}
        return {
            "forged": f"{head}.{body}.{encoded(bytes(64))}",
            "changed": f"{head}.{role}.{signature}",
            "of another key": token(self.header(), self.claims(), own.sign),
            "of another key, unknown": token(self.header(kid="20260101T000000Z-abcdef"), self.claims(), own.sign),
            "of another key, no id": token(self.header(kid=None), self.claims(), own.sign),
            "of another key, sent along": token(self.header(jwk=jwk), self.claims(), own.sign),
            "of another key, to be fetched": token(
                self.header(kid=None, jku="http://127.0.0.1/keys"), self.claims(), own.sign
            ),
            "of a key that is a path": token(self.header(kid="../private/identity"), self.claims(), own.sign),
            "of a service's key": token(self.header(**by_order), self.claims(), self.order.key.sign),
            "of a service for a person": token(self.header(**by_order), self.claims(iss="order"), self.order.key.sign),
            "of a service for another": self._of_order("product"),
            "of a service for everybody": self._of_order("order", aud="shop"),
        }

    def _of_order(self, subject: str, **changes: Any) -> str:
        """A service token that `order` signed, as `subject`, for the service that is called."""
        claims = self.claims(**{"iss": subject, "sub": subject, "aud": self._audience, **changes})
        return token(self.header(typ="st+jwt", kid=self.order.name.id), claims, self.order.key.sign)

    def _without_a_key(self) -> dict[str, str]:
        """Not signed, or with what everybody knows."""
        public = self.identity.public.key
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        made = {
            f"with alg {alg}": token(self.header(alg=alg), self.claims(), lambda _: b"")
            for alg in ("none", "None", "NONE", "nOnE", "", None)
        }
        for name, secret in (("in PEM", pem), ("as it is", public.public_bytes_raw()), ("left out", b"")):
            made[f"HS256 with the public key {name}"] = token(
                self.header(alg="HS256"), self.claims(), partial(_hs256, secret)
            )
        made["HS256 that says it is EdDSA"] = token(self.header(), self.claims(), partial(_hs256, pem))
        return made


def _hs256(secret: bytes, text: bytes) -> bytes:
    return hmac.digest(secret, text, hashlib.sha256)


def _changed(parts: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**parts, **changes}.items() if value is not None}
