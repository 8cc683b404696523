"""Who shows which certificate, and how the files are followed."""

from __future__ import annotations

import asyncio
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from grpc_registry.url import EtcdUrl, parse_url
from shop_services.launch.certificates import make_certificates
from shop_services.runtime.settings import SettingError, Settings
from shop_services.runtime.tls import ClientTls, client_tls, registry_url, server_credentials, server_tls, tls_files


def renew(directory: Path) -> None:
    make_certificates(directory, ["user", "order"], now=datetime.now(UTC))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    renew(tmp_path / "tls")
    return Settings(registry_url="etcds://e:2379/mesh", nats_url="tls://n:4222", tls_dir=tmp_path / "tls")


def test_without_a_directory_there_is_nothing() -> None:
    """Without SHOP_TLS_DIR nobody is given anything to encrypt with, and URLs stay as they are."""
    plain = Settings()
    assert tls_files(plain, "user") is None
    assert server_credentials(plain, "user") is None
    assert client_tls(plain, "user") is None
    assert server_tls(plain, "user", require_client_cert=True) is None
    assert registry_url(plain, "user") == "etcd://127.0.0.1:2379"


def test_a_call_expects_the_name_of_the_service(settings: Settings) -> None:
    """Files for calls to a service accept that service alone, wherever it is dialled."""
    files = tls_files(settings, "order", "user")
    assert files is not None
    assert files.channel_options() == [("grpc.ssl_target_name_override", "user.shop.internal")]


def test_the_registrys_url_gets_the_files(settings: Settings) -> None:
    """`etcds://` without parameters is given one's own files, and one with them is left alone."""
    url = registry_url(settings, "user")
    directory = settings.tls_dir
    expected = {"ca": f"{directory}/ca.pem", "cert": f"{directory}/user.pem", "key": f"{directory}/user.key"}
    assert dict(parse_qsl(urlsplit(url).query)) == {**expected, "server_name": "etcd.shop.internal"}
    parsed = parse_url(url)
    assert isinstance(parsed, EtcdUrl)
    assert parsed.members == ("e:2379",)
    own = "etcds://e:2379?ca=/own/ca.pem"
    given = Settings(registry_url=own, nats_url="memory://", tls_dir=directory)
    assert registry_url(given, "user") == own


@pytest.mark.parametrize(
    ("variable", "url"),
    [("REGISTRY_URL", "etcd://e:2379"), ("NATS_URL", "nats://n:4222"), ("CACHE_URL", "redis://c:6379")],
)
def test_with_a_directory_nothing_goes_in_plain_text(tmp_path: Path, variable: str, url: str) -> None:
    """A URL that does not encrypt is refused with its variable where SHOP_TLS_DIR is set, and defaults do encrypt."""
    environment = {"SHOP_TLS_DIR": str(tmp_path)}
    settings = Settings.from_environment(environment)
    assert (settings.registry_url, settings.nats_url) == ("etcds://127.0.0.1:2379", "tls://127.0.0.1:4222")
    with pytest.raises(SettingError, match=f"{variable}: .*SHOP_TLS_DIR"):
        Settings.from_environment({**environment, variable: url})


def test_a_client_has_the_same_context_until_the_files_change(settings: Settings) -> None:
    """A new connection costs no reading of files; one after a renewal shows the new certificate; one in the middle of a
    renewal the last that fitted."""
    tls = client_tls(settings, "user")
    assert tls is not None
    first = tls.context()
    assert tls.context() is first
    assert settings.tls_dir is not None
    key = settings.tls_dir / "user.key"
    good = key.read_bytes()
    key.write_bytes((settings.tls_dir / "order.key").read_bytes())
    assert tls.context() is first
    key.write_bytes(good)
    renew(settings.tls_dir)
    assert tls.context() is not first


@pytest.mark.parametrize("replaced", ["certificates", "authority"])
async def test_a_server_shows_the_files_of_the_moment(settings: Settings, replaced: str) -> None:
    """Each handshake of one and the same server uses what the files hold then, for itself and for whom it trusts."""
    directory = settings.tls_dir
    assert directory is not None
    context = server_tls(settings, "user", require_client_cert=True)
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        before = await asyncio.to_thread(shown, port, client_tls(settings, "order"))
        if replaced == "authority":
            (directory / "ca.pem").unlink()
            (directory / "ca.key").unlink()
        renew(directory)
        after = await asyncio.to_thread(shown, port, client_tls(settings, "order"))
    assert before != after


def shown(port: int, tls: ClientTls | None) -> bytes | None:
    """The certificate of who listens there. Raises `OSError` if it does not let us in."""
    assert tls is not None
    with (
        socket.create_connection(("127.0.0.1", port), timeout=30) as plain,
        tls.context().wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        assert connection.recv(1) == b""  # it ends in peace: no alert
        return connection.getpeercert(binary_form=True)


async def test_a_server_lets_nobody_in_without_a_certificate(settings: Settings) -> None:
    """Where certificates are required, who has one is greeted, and who has none is not."""

    def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"in")
        writer.close()

    context = server_tls(settings, "user", require_client_cert=True)
    known = client_tls(settings, "order")
    assert known is not None
    assert settings.tls_dir is not None
    anonymous = ssl.create_default_context(cafile=settings.tls_dir / "ca.pem")
    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        assert await greeting(port, known.context()) == b"in"
        assert await greeting(port, anonymous) == b""


async def greeting(port: int, tls: ssl.SSLContext) -> bytes:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        try:
            return await reader.read(2)
        finally:
            writer.close()
    except OSError:
        return b""
