"""Etags: opaque marks of a resource's state, made from its version number."""

from __future__ import annotations

import hashlib

from shop_services.runtime.errors import Aborted


def etag(kind: str, name: str, version: int) -> str:
    """The etag of `version` of the `kind` with the id `name`; no other kind, id or version has the same."""
    return hashlib.blake2b(f"{kind}\0{name}\0{version}".encode(), digest_size=12).hexdigest()


def check_etag(given: str, kind: str, name: str, version: int) -> None:
    """Let a change pass that is based on `version`, or that gave no etag.

    Raises:
        Aborted: `given` is the etag of another state, or none at all.
    """
    if given and given != etag(kind, name, version):
        raise Aborted(kind, name)
