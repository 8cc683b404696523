"""TLS on every connection, both sides with a certificate: who shows which files, and whom it expects at the other end.

SHOP_TLS_DIR holds `ca.pem`, and for each name of a service, a server or the operator `NAME.pem` and `NAME.key`. A
service is who its certificate says: `DNS:NAME.shop.internal`. Whoever calls it expects that name, wherever it dials.
All of these files may be replaced at any time. Who follows them uses the new ones from the next handshake on.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlencode

import grpc

from grpc_registry.errors import InvalidTls
from grpc_registry.tls import TlsFiles, TlsMaterial
from shop_services.runtime.settings import SettingError, Settings

DOMAIN = "shop.internal"
"""What the names in certificates end with. Nobody else can have it: `internal` is set aside for such use (ICANN)."""

OPERATOR = "operator"
"""Whose certificate the command lines show."""

_SAN = "x509_subject_alternative_name"


def host_name(name: str) -> str:
    """The name in the certificate of the service, the server or the operator `name`."""
    return f"{name}.{DOMAIN}"


def tls_files(settings: Settings, name: str, server: str = "") -> TlsFiles | None:
    """What `name` shows and whom it trusts; None without SHOP_TLS_DIR. Only `server` is accepted at the other end.

    Without `server` that is whoever has a certificate for the address that is dialled.

    Raises:
        SettingError: the files are not there, or do not belong together.
    """
    directory = settings.tls_dir
    if directory is None:
        return None
    try:
        return TlsFiles(
            directory / "ca.pem",
            directory / f"{name}.pem",
            directory / f"{name}.key",
            server_name=host_name(server) if server else "",
        )
    except InvalidTls as error:
        raise SettingError("SHOP_TLS_DIR", f"{error} (`shop certs DIR` makes what is needed)") from None


def server_credentials(settings: Settings, name: str) -> grpc.ServerCredentials | None:
    """For one port of a gRPC server of `name`, which lets nobody in without a certificate. Raises as `tls_files`."""
    files = tls_files(settings, name)
    return None if files is None else files.server_credentials()


def client_tls(settings: Settings, name: str, server: str = "") -> ClientTls | None:
    """What connections that are not gRPC's need; None without SHOP_TLS_DIR. Raises as `tls_files`."""
    files = tls_files(settings, name, server)
    return None if files is None else ClientTls(files)


def server_tls(settings: Settings, name: str, *, require_client_cert: bool) -> ssl.SSLContext | None:
    """For servers that are not gRPC's: each handshake looks at the files. Raises as `tls_files`."""
    files = tls_files(settings, name)
    return None if files is None else _server_context(files, require_client_cert)


def registry_url(settings: Settings, name: str) -> str:
    """REGISTRY_URL, with the files of `name` where it is `etcds://` and names none itself. Raises as `tls_files`."""
    url = settings.registry_url
    files = tls_files(settings, name, "etcd")
    if files is None or not url.startswith("etcds://") or "?" in url:
        return url
    query = {"ca": files.ca, "cert": files.cert, "key": files.key, "server_name": files.server_name}
    return f"{url}?{urlencode(query)}"


def peer_names(context: grpc.aio.ServicerContext[object, object]) -> tuple[str, ...]:
    """The names in the certificate of whoever calls; none without TLS."""
    return tuple(name.decode("ascii", "replace") for name in context.auth_context().get(_SAN, ()))


class ClientTls:
    """An `ssl.SSLContext` for each new connection, of the files as they are then."""

    def __init__(self, files: TlsFiles) -> None:
        self._contexts = _Contexts(files, lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        self.server_name = files.server_name or None
        """Whom to expect at the other end; None: whom one dials."""

    def context(self) -> ssl.SSLContext:
        """The same object until the files change."""
        return self._contexts.current()


class _Contexts:
    """A context of the last files that fitted together."""

    def __init__(self, files: TlsFiles, make: Callable[[], ssl.SSLContext]) -> None:
        self._follower = files.follow()
        self._make = make
        self._material = self._follower.material
        self._context = self._load()

    def current(self) -> ssl.SSLContext:
        material: TlsMaterial = self._follower.current()
        if material is not self._material:
            try:
                self._context = self._load()
            except (OSError, ValueError):  # replaced again meanwhile: the next look sees that
                return self._context
            self._material = material
        return self._context

    def _load(self) -> ssl.SSLContext:
        context = self._make()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        files = self._follower.files
        if files.ca is not None:
            context.load_verify_locations(Path(files.ca))
        if files.cert is not None:
            context.load_cert_chain(Path(files.cert), None if files.key is None else Path(files.key))
        return context


def _server_context(files: TlsFiles, require_client_cert: bool) -> ssl.SSLContext:
    def make() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED if require_client_cert else ssl.CERT_NONE
        return context

    contexts = _Contexts(files, make)
    served = contexts.current()

    def renew(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = contexts.current()

    # Called in every handshake, also where the client names nobody.
    served.sni_callback = renew
    return served
