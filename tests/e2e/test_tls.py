"""`shop up --tls`: everything encrypted, nobody let in without a certificate, and certificates renewed as it runs."""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from shop_services.launch.certificates import make_certificates
from tests.e2e.running_shop import RunningShop
from tests.servers import free_port

_LINE = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
# What a server might answer who speaks in plain text: HTTP/1.1, HTTP/2's preface, NATS, SMTP, a request for a greeting.
_PLAIN = (_LINE, _PREFACE, b"PING\r\n", b"")
# Nothing; an alert of TLS; and what Go's HTTPS servers, such as etcd's, say to that.
_REFUSED = re.compile(rb"|\x15\x03.*|HTTP/1\.0 400 .*", re.DOTALL)

_PATIENCE = 20.0
"""Seconds that a server may take to answer, on a busy machine."""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningShop]:
    metrics = free_port(40)  # in a row: more than a shop has processes
    shop = RunningShop(tmp_path_factory.mktemp("tls") / "data", "--tls", SHOP_METRICS_PORT=str(metrics))
    try:
        yield shop.start()
    finally:
        shop.kill()


def ports(shop: RunningShop) -> dict[int, str]:
    """All ports that the shop's processes listen on, and who does.

    They are looked for several times: the kernel's table skips lines while other connections come and go.
    """
    found = {}
    for process in [psutil.Process(pid) for pid in shop.descendants()] * 3:
        for connection in process.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                found[connection.laddr.port] = " ".join(process.cmdline())
    return found


def context(directory: Path, name: str = "") -> ssl.SSLContext:
    """A client that trusts `ca.pem` and shows the certificate of `name`, if there is a name."""
    made = ssl.create_default_context(cafile=directory / "ca.pem")
    made.set_alpn_protocols(["h2", "http/1.1"])  # gRPC goes on with nobody who does not speak HTTP/2
    if name:
        made.load_cert_chain(directory / f"{name}.pem", directory / f"{name}.key")
    return made


def let_in(port: int, tls: ssl.SSLContext) -> bool:
    """Whether a handshake succeeds, and the server then answers: of TLS 1.3 the client hears only after its own end.

    Every server of ours has something to say to the preface of HTTP/2 or to a line of HTTP/1.1, or greets before it.
    Both are tried: some that agree to HTTP/2 answer nothing but HTTP/1.1 (etcd, to its peers), and some of those who
    mean it may hang up on HTTP/1.1 without a word (etcd, to its clients: 7 times in 100).
    """
    return any(_answered(port, tls, text) for text in (_PREFACE, _LINE))


def _answered(port: int, tls: ssl.SSLContext, text: bytes) -> bool:
    """Whether anything is heard from who is told this."""
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as plain,
            tls.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            connection.sendall(text)
            return connection.recv(1) != b""
    except (ssl.SSLError, ConnectionError):
        return False


def test_every_port_wants_a_certificate_but_the_front_door(shop: RunningShop, tmp_path: Path) -> None:
    """No port answers plain text. All let a certificate of the shop's in, and none without one, or with another
    authority's, but the gateway and the mail server, who serve whoever comes, encrypted."""
    certificates = shop.data / "tls"
    foreign = tmp_path / "foreign"
    make_certificates(foreign, ["operator"], now=datetime.now(UTC))
    shutil.copy(certificates / "ca.pem", foreign / "ca.pem")
    listening = ports(shop)
    assert len(listening) >= 3 + 16 + 16  # servers, the instances of services and workers, and the metrics of each
    gateways = {int(instance["address"].rpartition(":")[2]) for instance in shop.instances("gateway")}
    for port, who in listening.items():
        with ExitStack() as stack:
            spoken = [(text, stack.enter_context(_speaking(port, text))) for text in _PLAIN]
            # Who answers a connection made after these has had the time to answer these.
            assert let_in(port, context(certificates, "operator")), (port, who)
            for text, connection in spoken:
                answer = _heard(connection)
                assert _REFUSED.fullmatch(answer), (port, who, text, answer)
        serves_all = port in gateways or "notification.sink" in who
        assert let_in(port, context(certificates)) is serves_all, (port, who)
        assert let_in(port, context(foreign, "operator")) is serves_all, (port, who)


@contextmanager
def _speaking(port: int, text: bytes) -> Iterator[socket.socket]:
    """A connection on which plain text was sent."""
    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as connection:
        with suppress(ConnectionError):
            connection.sendall(text)
        yield connection


def _heard(connection: socket.socket) -> bytes:
    """What was answered, now or within a moment."""
    connection.settimeout(0.2)
    try:
        return connection.recv(100)
    except (TimeoutError, ConnectionError):
        return b""


def test_certificates_are_renewed_as_it_runs_and_no_call_is_lost(shop: RunningShop) -> None:
    """While customers read the catalog all certificates are replaced: every call is answered, and soon all servers show
    new ones."""
    certificates = shop.data / "tls"
    trusting = context(certificates, "operator")
    browser = ssl.create_default_context(cafile=certificates / "ca.pem")
    listening = ports(shop)
    before = {port: _shown(port, trusting) for port in listening}
    with _readers(shop.gateway, browser) as answers:
        assert "13 certificates" in shop.run("shop", "certs", str(certificates))
        trusting.load_cert_chain(certificates / "operator.pem", certificates / "operator.key")
        _within(60, lambda: [listening[port] for port, shown in before.items() if _shown(port, trusting) == shown])
        enough = len(answers) + 200
        _within(120, lambda: len(answers) < enough)
    assert set(answers) == {200}
    assert shop.complaints() == ""


@contextmanager
def _readers(gateway: str, tls: ssl.SSLContext) -> Iterator[list[int]]:
    """Customers, each on a connection of its own for each look; gives the statuses that they were answered with."""
    host, _, port = gateway.removeprefix("https://").rpartition(":")
    statuses: list[int] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            connection = http.client.HTTPSConnection(host, int(port), timeout=_PATIENCE, context=tls)
            try:
                connection.request("GET", "/v1/products?pageSize=5")
                statuses.append(connection.getresponse().status)
            except OSError:
                statuses.append(0)
            finally:
                connection.close()
            time.sleep(0.05)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _shown(port: int, tls: ssl.SSLContext, tries: int = 3) -> bytes | None:
    """The certificate of who listens there.

    NATS hangs up amid a handshake that takes more than 2 s, as it may if this process stands still.
    """
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as plain,
            tls.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
        ):
            return connection.getpeercert(binary_form=True)
    except (ssl.SSLError, ConnectionError):
        if tries == 1:
            raise
        return _shown(port, tls, tries - 1)


def _within(seconds: float, missing: Callable[[], object]) -> None:
    """Return when nothing is missing any more."""
    deadline = time.monotonic() + seconds
    while left := missing():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_the_tools_work_with_what_it_prints(shop: RunningShop) -> None:
    """The lines after `try` are commands that work."""
    commands = [line.removeprefix("try").strip() for line in shop.output() if line.startswith(("try  ", "     "))]
    assert len(commands) == 4
    for command in commands:
        printed = shop.run_line(command)
        assert printed.strip(), command


def test_the_demo_succeeds(tmp_path: Path) -> None:
    """`shop up --tls --demo` plays the whole journey, from the login to the receipt, over encrypted connections."""
    demo = RunningShop(tmp_path / "data", "--tls", "--demo").spawn()
    try:
        assert demo.wait(300) == 0, demo.output()[-5:] + demo.errors().splitlines()[-20:]
    finally:
        demo.kill()
    assert any(line.startswith("All of it worked") for line in demo.output())
    assert "ready: https://" in "\n".join(demo.output())
