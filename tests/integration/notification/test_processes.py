"""The worker as a process on a real broker, killed where it hurts; and the development mail server as a process."""

from __future__ import annotations

import asyncio
import os
import signal
import smtplib
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from grpc_registry import connect
from shop_services.messaging.bus import Message
from shop_services.messaging.connect import connect_bus
from shop_services.notification.domain import State
from shop_services.notification.mailbox import listed, read
from shop_services.notification.wiring import SERVICE, TOPIC
from shop_services.runtime.settings import Settings
from shop_services.storage import Database
from shop_services.user.wiring import wire as wire_user
from tests.integration.notification.mail_server import MailServer, mail_server
from tests.integration.notification.office import SECONDS, mail_in
from tests.integration.order.shop import create_user, served
from tests.servers import Etcd, Nats, free_port
from tests.servers.service import ServiceProcess
from tests.unit.services.notification.orders import ended, ending


async def test_a_worker_killed_between_sending_and_marking_sends_the_same_again(
    shared_etcd: Etcd, nats: Nats, tmp_path: Path
) -> None:
    """The mail server gets two e-mails with one Message-ID and the same bytes, and one is recorded, as sent."""
    settings = Settings(registry_url=f"{shared_etcd.url}/{uuid4().hex}", nats_url=nats.url, data=tmp_path)
    async with AsyncExitStack() as stack:
        server, port = await stack.enter_async_context(mail_server())
        registry = await stack.enter_async_context(connect(settings.registry_url))
        users = await stack.enter_async_context(wire_user(settings, registry))
        await stack.enter_async_context(served(users, registry))
        bus = connect_bus(settings, name="test", identity="operator")
        stack.push_async_callback(bus.close)
        processes = stack.enter_context(ExitStack())

        async def start(name: str) -> ServiceProcess:
            environment = {
                "REGISTRY_URL": settings.registry_url,
                "NATS_URL": settings.nats_url,
                "SHOP_DATA": str(tmp_path),
                "SHOP_SMTP_URL": f"smtp://127.0.0.1:{port}",
                "SHOP_PROPAGATION": "0",
            }
            process = ServiceProcess("notification", tmp_path / name, environment)
            processes.callback(process.kill)
            return await asyncio.to_thread(process.start)

        first = await start("first")
        server.taken = first.kill
        ann = await create_user(registry, "ann")
        await bus.publish(Message(TOPIC, ended(ending(user_id=ann))))
        await _taken(server, 1)
        assert not first.running
        server.taken = lambda: None
        second = await start("second")
        database = await stack.enter_async_context(Database(settings.database(SERVICE), service=SERVICE, pool=1))
        mail = await mail_in(database, "o1", State.SENT)
        assert mail.attempts == 2
        assert len(server.contents) == 2
        assert len(set(server.contents)) == 1
        assert server.mails[0]["Message-ID"] == "<order-o1@shop.example>"
        await asyncio.to_thread(second.stop)
        log = second.log.read_text()
    assert '"mail_sent"' in log
    assert '"stopped"' in log
    assert "ann@example.com" not in log


async def _taken(server: MailServer, count: int) -> None:
    async with asyncio.timeout(SECONDS):
        while True:
            if len(server.mails) >= count:
                return
            await asyncio.sleep(0.02)


class SinkProcess(ServiceProcess):
    """`python -m shop_services.notification.sink`."""

    def __init__(self, directory: Path, port: int) -> None:
        super().__init__("notification.sink", directory, {"SHOP_PORT": str(port), "SHOP_DATA": str(directory)})

    def command(self) -> Sequence[str]:
        """A warning ends it."""
        command = list(super().command())
        at = command.index("-m")
        return [*command[:at], "-W", "error", *command[at:]]

    def ended(self) -> int:
        """Its exit code, when it has ended."""
        assert self._process is not None
        return self._process.wait(30)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_sink_keeps_mails_and_stops_when_told(tmp_path: Path, stop: signal.Signals) -> None:
    """What it acknowledged is a file; told to stop it ends with 0 at once, also with a client connected."""
    port = free_port()
    sink = SinkProcess(tmp_path / "sink", port).start()
    try:
        client = smtplib.SMTP("127.0.0.1", port, timeout=10)
        client.sendmail("shop@shop.example", ["ann@example.com", "bob@example.com"], "Subject: hello\r\n\r\n.\r\n")
        message = read(listed(sink.directory / "mail")[0])
        os.kill(sink.pid, stop)
        assert sink.ended() == 0
        client.close()
    finally:
        sink.kill()
    assert (message["Subject"], message["Return-Path"]) == ("hello", "<shop@shop.example>")
    assert message.get_all("Delivered-To") == ["ann@example.com", "bob@example.com"]
    assert message.get_content() == ".\n"
    log = sink.log.read_text()
    assert '"stopped"' in log
    assert "ann@example.com" not in log
    assert "Warning" not in log


def test_a_taken_port_is_one_line_and_2(tmp_path: Path) -> None:
    """A second sink on the same port ends with 2 and says why."""
    port = free_port()
    first, second = SinkProcess(tmp_path / "first", port), SinkProcess(tmp_path / "second", port)
    first.start()
    try:
        second.spawn()
        assert second.ended() == 2
    finally:
        first.kill()
        second.kill()
    expected = f"mail-sink: SHOP_PORT: cannot bind 127.0.0.1:{port}: in use, or not an address of ours\n"
    assert second.log.read_text() == expected


def test_a_data_directory_that_is_none_is_one_line_and_2(tmp_path: Path) -> None:
    """A mailbox that cannot be made ends with 2 and names the variable."""
    (tmp_path / "mail").touch()
    sink = SinkProcess(tmp_path, free_port())
    sink.spawn()
    try:
        assert sink.ended() == 2
    finally:
        sink.kill()
    assert sink.log.read_text() == f"mail-sink: SHOP_DATA: cannot keep e-mails in {tmp_path / 'mail'}: File exists\n"
