"""What is given up is kept with its reason, and completed by `shop dlq retry`: with real processes from end to end."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Session
from aiosmtpd.smtp import Envelope as Handed

from shop.events.v1.events_pb2 import Envelope
from shop_services.launch import tether
from shop_services.messaging.bus import Message
from shop_services.messaging.jetstream import JetStreamBus
from tests.e2e import failing_worker
from tests.e2e.buying import Shopper
from tests.e2e.running_shop import BIN, ENVIRONMENT, RunningShop
from tests.servers import Nats, free_port


def dlq(url: str, *arguments: str) -> str:
    """What `shop dlq` prints."""
    command = [str(BIN / "shop"), "dlq", *arguments]
    environment = {**ENVIRONMENT, "NATS_URL": url}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr or result.stdout
    return result.stdout


def letters(url: str, count: int, *, seconds: float = 60) -> list[dict[str, Any]]:
    """What `shop dlq ls` lists, as soon as it is so many."""
    deadline = time.monotonic() + seconds
    while len(found := json.loads(dlq(url, "ls", "-o", "json"))) != count:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return list(found)


@pytest.fixture
def worker(nats: Nats, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of `orders` that fails until `tmp_path/handled` is there."""
    command = [sys.executable, str(failing_worker.__file__), nats.url, "orders", str(tmp_path / "handled")]
    tethered = [sys.executable, "-I", "-S", str(tether.__file__), str(os.getpid()), *command]
    with subprocess.Popen(tethered, env=ENVIRONMENT) as process:
        yield process
        process.kill()


async def publish(url: str, *ids: str) -> None:
    bus = JetStreamBus(url, name="test")
    try:
        for id_ in ids:
            await bus.publish(Message("orders", Envelope(id=id_, type="order.reserve", order_id=f"order-of-{id_}")))
    finally:
        await bus.close()


def test_a_handler_that_always_raises(nats: Nats, worker: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """Its messages end in the dead letters after all attempts, with the reason of each; `retry` completes them."""
    asyncio.run(publish(nats.url, "one", "two"))
    for letter in letters(nats.url, 2):
        assert letter["reason"].startswith("FileNotFoundError: ")
        assert [attempt["attempt"] for attempt in letter["history"]] == [1, 2, 3, failing_worker.ATTEMPTS]
        assert {attempt["reason"] for attempt in letter["history"]} == {letter["reason"]}
        shown = dlq(nats.url, "show", letter["id"])
        assert letter["reason"] in shown
        assert letter["envelope"]["order_id"] in shown
    assert worker.poll() is None

    handled = tmp_path / "handled"
    handled.mkdir()
    dlq(nats.url, "retry", "--all")
    deadline = time.monotonic() + 60
    while {file.name for file in handled.iterdir()} != {"one", "two"}:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert letters(nats.url, 0) == []


class Picky:
    """A mail server's rules: e-mails are refused for good until it is told otherwise."""

    def __init__(self) -> None:
        self.refuses = True
        self.taken: list[str] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, handed: Handed) -> str:
        if self.refuses:
            return "554 5.7.1 not this week"
        self.taken += handed.rcpt_tos
        return "250 OK"


def test_an_e_mail_that_is_refused_is_kept_and_sent_later(own_shop: RunningShop) -> None:
    """A mail server that refuses spoils no order: the message is in the dead letters, and `retry` sends the e-mail."""
    rules = Picky()
    server = Controller(rules, hostname="127.0.0.1", port=free_port(), ready_timeout=30)
    server.start()
    try:
        url = f"smtp://127.0.0.1:{server.port}"
        shop = RunningShop(own_shop.data, "--replicas", "1", SHOP_SMTP_URL=url)
        try:
            shop.start()
            shopper = Shopper(shop)
            order_id = shopper.orders()
            shopper.sees(order_id, "FULFILLED")
            (letter,) = letters(shop.bus, 1)
            assert letter["topic"] == "notifications"
            assert letter["envelope"]["order_id"] == order_id
            assert "554" in letter["reason"]
            assert shopper.address not in json.dumps(letter)
            assert rules.taken == []

            rules.refuses = False
            dlq(shop.bus, "retry", letter["id"])
            deadline = time.monotonic() + 60
            while not rules.taken:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert rules.taken == [shopper.address]
            assert letters(shop.bus, 0) == []
            assert shop.stop() == 0
        finally:
            shop.kill()
    finally:
        server.stop()
