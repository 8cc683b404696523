"""Keys in files: `public/OWNER.ID.pem`, to be read by all, and `private/OWNER.ID.pem`, by their owner alone.

Processes find each other's keys here without being told. A token names its key, so that one which is not known yet is
looked up by its name; one that is known is looked after now and then, for whoever removes its file revokes it. Nothing
runs meanwhile: all of it happens when a token is to be signed or checked, and costs a system call or two.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from shop_services.runtime.errors import Unavailable
from shop_services.runtime.identity.keys import KeyName, MissingKey, PrivateKey, PublicKey, to_sign_with

LOOK_SECONDS = 5.0
"""For how long what was seen of the files is believed."""

_SUFFIX = ".pem"

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Seen:
    key: PublicKey
    looked: float


class KeyDirectory:
    """The keys in a directory, which need not exist before a key is made there.

    Args:
        path: The directory.
        make: Make an owner's first private key when it is asked for and missing.
        clock: Seconds since 1970.
    """

    def __init__(self, path: Path, *, make: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._public = path / "public"
        self._private = path / "private"
        self._make = make
        self._clock = clock
        self._seen: dict[KeyName, _Seen] = {}
        self._listed: dict[str, tuple[float, list[PublicKey]]] = {}
        self._signing: dict[str, tuple[float, list[PrivateKey]]] = {}

    def __repr__(self) -> str:
        return f"<KeyDirectory {self._public.parent}>"

    def public(self, name: KeyName) -> PublicKey | None:
        """See `Keys.public`. Raises `Unavailable` if a file is there, and cannot be read."""
        now = self._clock()
        seen = self._seen.get(name)
        if seen is None:
            if (key := self._read_public(name)) is not None:
                self._seen[name] = _Seen(key, now)
            return key
        if not 0 <= now - seen.looked < LOOK_SECONDS:
            seen.looked = now
            if self._is_gone(name):
                del self._seen[name]
                return None
        return seen.key

    def published(self, owner: str) -> list[PublicKey]:
        """See `Keys.published`."""
        now = self._clock()
        looked, keys = self._listed.get(owner, (0.0, []))
        if not 0 <= now - looked < LOOK_SECONDS:
            keys = [key for name in _names(self._public, owner) if (key := self.public(name)) is not None]
            self._listed[owner] = now, keys
        return keys

    def signing(self, owner: str) -> PrivateKey:
        """See `Keys.signing`. Raises `OSError` if the first one cannot be made."""
        now = self._clock()
        looked, keys = self._signing.get(owner, (0.0, []))
        if not 0 <= now - looked < LOOK_SECONDS:
            keys = self._read_all_private(owner, keys)
            if not keys and self._make:
                keys = self._made(owner)
            if not keys:
                raise MissingKey(f"there is no key of {owner} in {self._private}")
            self._signing[owner] = now, keys
        chosen = to_sign_with((key.name for key in keys), now)
        return next(key for key in keys if key.name == chosen)

    def add(self, owner: str) -> PrivateKey:
        """Make a key of `owner`. Raises `OSError` if it cannot be written, `ValueError` if nobody is called so."""
        key = PrivateKey.new(KeyName.new(owner, self._clock()))
        self._make_folders()
        # In this order: whoever sees a token of it must find its public half.
        public = key.public.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        _write(self._file(self._public, key.name), public, 0o644)
        private = key.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _write(self._file(self._private, key.name), private, 0o600)
        self._signing.pop(owner, None)
        self._listed.pop(owner, None)
        return key

    def remove(self, name: KeyName) -> None:
        """Trust a key no longer, here at once, elsewhere within `LOOK_SECONDS`. Raises `OSError`."""
        for folder in (self._private, self._public):
            self._file(folder, name).unlink(missing_ok=True)
        self._seen.pop(name, None)
        self._signing.pop(name.owner, None)
        self._listed.pop(name.owner, None)

    def names(self, owner: str | None = None) -> list[KeyName]:
        """The public keys that are there, of `owner` or of all, oldest first for each. Raises `OSError`."""
        return _names(self._public, owner)

    def private_names(self) -> list[KeyName]:
        """The private keys that are there. Raises `OSError`."""
        return _names(self._private)

    def _made(self, owner: str) -> list[PrivateKey]:
        """The first private key of `owner`, made here or by another process that starts at the same time."""
        self._make_folders()
        folder = os.open(self._private, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)  # for as long as the others take to write two small files
            return self._read_all_private(owner, []) or [self.add(owner)]
        finally:
            os.close(folder)

    def _make_folders(self) -> None:
        # However wide the umask is: whoever can write a public key can be anyone. Above may be the data directory, made
        # here first, which is its owner's.
        path = self._public.parent
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder, mode in ((path, 0o755), (self._public, 0o755), (self._private, 0o700)):
            folder.mkdir(mode=mode, exist_ok=True)

    def _read_public(self, name: KeyName) -> PublicKey | None:
        try:
            pem = self._file(self._public, name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            _log.warning("key_unreadable", key=str(name), error=error.strerror)
            raise Unavailable("the keys that tokens are checked with cannot be read") from error
        key = _loaded(load_pem_public_key, pem)
        if not isinstance(key, Ed25519PublicKey):
            _log.warning("key_unusable", key=str(name), error="no Ed25519 key in PEM")
            return None
        return PublicKey(name, key)

    def _is_gone(self, name: KeyName) -> bool:
        try:
            self._file(self._public, name).stat()
        except FileNotFoundError:
            return True
        except OSError as error:  # no word on whether it is there: what is known stays in force
            _log.warning("key_unreadable", key=str(name), error=error.strerror)
        return False

    def _read_all_private(self, owner: str, known: list[PrivateKey]) -> list[PrivateKey]:
        """The private keys of `owner`; those that are `known` if they cannot be read now."""
        kept = {key.name: key for key in known}
        try:
            found = [kept.get(name) or self._read_private(name) for name in _names(self._private, owner)]
        except OSError as error:
            _log.warning("key_unreadable", owner=owner, error=error.strerror)
            if not known:
                raise MissingKey(f"{self._private} cannot be read: {error.strerror}") from error
            return known
        return [key for key in found if key is not None] or known

    def _read_private(self, name: KeyName) -> PrivateKey | None:
        try:
            pem = self._file(self._private, name).read_bytes()
        except FileNotFoundError:  # removed since it was listed
            return None
        key = _loaded(lambda text: load_pem_private_key(text, password=None), pem)
        if not isinstance(key, Ed25519PrivateKey):
            _log.warning("key_unusable", key=str(name), error="no Ed25519 key in PEM")
            return None
        return PrivateKey(name, key)

    def _file(self, folder: Path, name: KeyName) -> Path:
        return folder / f"{name}{_SUFFIX}"


def _names(folder: Path, owner: str | None = None) -> list[KeyName]:
    """The keys that have a file in `folder`, which need not be there."""
    try:
        files = os.listdir(folder)  # noqa: PTH208 - only the names, and many of them
    except FileNotFoundError:
        return []
    parts = (file.removesuffix(_SUFFIX).split(".", 1) for file in files if file.endswith(_SUFFIX))
    names = (KeyName.of(*two) for two in parts if len(two) == 2)
    return sorted(name for name in names if name is not None and owner in (None, name.owner))


def _loaded(load: Callable[[bytes], object], pem: bytes) -> object:
    try:
        return load(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        return None


def _write(file: Path, content: bytes, mode: int) -> None:
    """Write a new file that is there as a whole or not at all."""
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        draft.rename(file)
    finally:
        draft.unlink(missing_ok=True)
