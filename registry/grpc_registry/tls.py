"""Certificates in files, for clients and servers alike, that may be replaced while the process runs.

Certificates live for days or hours now, and what issues them (cert-manager, Vault, a cron job) replaces the files. It
can be met in the middle of that: a key that does not belong to the certificate yet, a file that is away for a moment.
So the files are looked at often, which costs one `stat` each, read when they changed, checked as a whole, and what does
not fit together is not used: the last that did stays in force.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import grpc

from grpc_registry.errors import InvalidTls

logger = logging.getLogger(__name__)

_Path = str | os.PathLike[str]
_Stamp = tuple[tuple[int, int, int, int] | None, ...]

_Fetcher = Callable[[], grpc.ServerCertificateConfiguration]

_READ_TRIES = 3


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """The PEM texts that were in the files together. Equal if they are the same bytes; none of them is ever shown."""

    ca: bytes | None = field(default=None, repr=False)
    cert: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """What a client needs; without `ca` it trusts gRPC's own roots."""
        return grpc.ssl_channel_credentials(self.ca, self.key, self.cert)

    def server_configuration(self) -> grpc.ServerCertificateConfiguration:
        """What a server shows, and whom it trusts. Raises `InvalidTls` without `cert` and `key`."""
        if self.key is None or self.cert is None:
            raise InvalidTls("a server needs cert and key")
        return grpc.ssl_server_certificate_configuration([(self.key, self.cert)], self.ca)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Paths of PEM files: authorities to trust, and one's own certificate (with its chain) and private key.

    `server_name` is what a client expects in the server's certificate, where that is not what it dials. The files are
    read when this is made, so that a wrong path is heard of at once, and again by whoever uses them.

    Raises:
        InvalidTls: a file is missing, is no PEM file, or does not belong to the others; the message names it.
    """

    ca: _Path | None = None
    cert: _Path | None = None
    key: _Path | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise InvalidTls("cert and key go together")
        self.read()

    def read(self) -> TlsMaterial:
        """What is in the files now, all from one moment. Raises `InvalidTls`."""
        for _ in range(_READ_TRIES):
            before = self.stamp()
            material = TlsMaterial(*(_pem(name, path) for name, path in self._paths()))
            self._check()
            if self.stamp() == before:
                return material
        raise InvalidTls("the files change all the time")

    def stamp(self) -> _Stamp:
        """Another value once a file was replaced, changed or removed, links on the way to it included; cheap."""
        return tuple(_stamp(path) for _, path in self._paths())

    def follow(self) -> TlsFollower:
        """What is in the files, now and later. Raises `InvalidTls`."""
        return TlsFollower(self)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """For a channel: of the files as they are now. Raises `InvalidTls`."""
        return self.read().channel_credentials()

    def channel_options(self) -> list[tuple[str, Any]]:
        """Options that a channel with these credentials needs."""
        return [("grpc.ssl_target_name_override", self.server_name)] if self.server_name else []

    def server_credentials(self, *, require_client_cert: bool = True) -> grpc.ServerCredentials:
        """For one `add_secure_port`: each handshake looks at the files, so a server takes new ones without a restart.

        gRPC is told of new files once, so another port needs credentials of its own: call this for each.
        Connections that exist go on. With `require_client_cert` only clients with a certificate of `ca` get in.
        Of one port only: each needs credentials of its own, since gRPC asks once for what is new.

        Raises:
            InvalidTls: a server cannot do without `cert` and `key`, nor ask for certificates without `ca`.
        """
        if require_client_cert and self.ca is None:
            raise InvalidTls("a server that requires a client's certificate needs ca")
        follower = self.follow()
        return grpc.dynamic_ssl_server_credentials(
            follower.material.server_configuration(),
            cast("_Fetcher", _fetcher(follower)),  # the types of grpcio leave out that it may return None
            require_client_cert,
        )

    def _paths(self) -> tuple[tuple[str, _Path | None], ...]:
        return ("ca", self.ca), ("cert", self.cert), ("key", self.key)

    def _check(self) -> None:
        """By OpenSSL, as it is in Python: gRPC would tell of a key that does not fit only by failing handshakes."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca is not None:
            try:
                context.load_verify_locations(self.ca)
            except (OSError, ValueError):
                raise InvalidTls(f"ca: {os.fspath(self.ca)!r} has no usable certificate") from None
        if self.cert is not None and self.key is not None:
            try:
                # A passphrase would be asked for at the terminal, and gRPC takes no key with one.
                context.load_cert_chain(self.cert, self.key, password=lambda: b"")
            except (OSError, ValueError) as error:
                raise InvalidTls(
                    f"cert {os.fspath(self.cert)!r} and key {os.fspath(self.key)!r} do not fit: {_reason(error)}"
                ) from None


class TlsFollower:
    """The last material that fitted together. `current` is cheap enough for every call; safe to share among threads."""

    def __init__(self, files: TlsFiles) -> None:
        self.files = files
        self.material = files.read()
        self._stamp: _Stamp = ()  # what the files were when they were last judged; () is never theirs
        self._good = True
        self._turn = threading.Lock()

    def current(self) -> TlsMaterial:
        """The material in force: the same object until the files hold another that fits together.

        Files that do not fit are said once, until they fit again, and looked at again when they change.
        """
        with self._turn:
            stamp = self.files.stamp()
            if stamp != self._stamp:
                self._judge(stamp)
            return self.material

    def _judge(self, stamp: _Stamp) -> None:
        try:
            material = self.files.read()
        except InvalidTls as error:
            if self._good:
                logger.warning("certificates unusable, keeping the last that were good: %s", error)
            self._good = False
        else:
            if material != self.material:
                self.material = material
                logger.info("new certificates are in force")
            self._good = True
        # Files that changed since have another stamp than this: they are judged the next time.
        self._stamp = stamp


def _fetcher(follower: TlsFollower) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
    """For gRPC, which asks it at every handshake, from threads of its own; None stands for no change."""
    served = follower.material

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        nonlocal served
        material = follower.current()
        if material is served:
            return None
        served = material
        return material.server_configuration()

    return fetch


def _pem(name: str, path: _Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        text = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        raise InvalidTls(f"{name}: cannot read {os.fspath(path)!r}: {_reason(error)}") from None
    if b"-----BEGIN " not in text:
        raise InvalidTls(f"{name}: {os.fspath(path)!r} is not a PEM file")
    return text


def _stamp(path: _Path | None) -> tuple[int, int, int, int] | None:
    if path is None:
        return None
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
