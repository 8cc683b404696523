"""Dead letters on a real NATS server: listed, shown, tried again and dropped, also by `shop dlq`."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from random import Random

import pytest
import structlog

from shop.events.v1.events_pb2 import Envelope, OrderEnded
from shop_services.cli.dlq import add_commands
from shop_services.messaging.bus import BusUnavailable, Message
from shop_services.messaging.dead_letters import DeadLetters, open_dead_letters
from shop_services.messaging.envelopes import envelope
from shop_services.messaging.jetstream import JetStreamBus
from shop_services.messaging.retry import RetryPolicy
from shop_services.runtime.errors import NotFound
from tests.servers import Nats, free_port

Shop = Callable[..., int]


async def give_up(url: str, topic: str, *ids: str) -> list[Envelope]:
    """Publish messages whose handler fails for good; what was published."""
    bus = JetStreamBus(url, name="worker", rng=Random(1))
    given = []

    async def handler(_envelope: Envelope) -> None:
        raise ValueError("a defect\nof two lines")

    try:
        for id in ids:
            body = OrderEnded(user_id="user-1", status="FULFILLED")
            made = envelope("order.ended", f"order-{id}", 3, id=id, time=datetime.now(UTC), body=body)
            await bus.publish(Message(topic, made))
            given.append(made)
        policy = RetryPolicy(attempts=2, first=0.02)
        async with (
            bus.subscribe(topic, handler, concurrency=1, retries=policy),
            open_dead_letters(url) as letters,
            asyncio.timeout(20),
        ):
            while True:
                if set(ids) <= {each.envelope.id for each in await letters.all(topic)}:
                    return given
                await asyncio.sleep(0.02)
    finally:
        await bus.close()


async def handled(url: str, topic: str, count: int) -> list[Envelope]:
    """The next messages of the topic, handled without an error."""
    bus = JetStreamBus(url, name="worker", rng=Random(1))
    came: asyncio.Queue[Envelope] = asyncio.Queue()

    async def handler(received: Envelope) -> None:
        came.put_nowait(received)

    try:
        async with bus.subscribe(topic, handler, concurrency=1, retries=RetryPolicy()), asyncio.timeout(20):
            return [await came.get() for _ in range(count)]
    finally:
        await bus.close()


async def test_a_letter_is_retried_as_the_same_message(nats: Nats) -> None:
    """A retried message reaches its handler with the id it had, and the letter is gone."""
    (given,) = await give_up(nats.url, "orders", "a")
    async with open_dead_letters(nats.url) as letters:
        (letter,) = await letters.all()
        assert (await letters.show(letter.id)) == letter
        await letters.retry(letter.id)
        assert await letters.all() == []
        with pytest.raises(NotFound, match=letter.id):
            await letters.retry(letter.id)
    assert await handled(nats.url, "orders", 1) == [given]


async def test_a_letter_that_fails_again_is_a_new_letter(nats: Nats) -> None:
    """A retried message that is given up once more lies in the dead letters again."""
    await give_up(nats.url, "orders", "a")
    async with open_dead_letters(nats.url) as letters:
        assert await letters.retry_all() == 1
        await give_up(nats.url, "orders", "b")  # its worker takes what was retried too
        async with asyncio.timeout(20):
            while True:
                if {each.envelope.id for each in await letters.all()} == {"a", "b"}:
                    break
                await asyncio.sleep(0.02)


async def test_a_letter_that_two_retry_is_retried_once(nats: Nats, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither fails, and the message is given to its topic once; to drop what another has removed is no error."""
    (given,) = await give_up(nats.url, "orders", "a")
    look, both = DeadLetters._all, asyncio.Barrier(2)

    async def look_together(letters: DeadLetters, topic: str | None) -> object:
        found = await look(letters, topic)
        await both.wait()  # or one may have removed it before the other looks
        return found

    async with open_dead_letters(nats.url) as one, open_dead_letters(nats.url) as other:
        with monkeypatch.context() as patch:
            patch.setattr(DeadLetters, "_all", look_together)
            async with asyncio.timeout(30):
                counts = await asyncio.gather(one.retry_all(), other.retry_all())
        assert list(counts) == [1, 1]
        assert await one.all() == []
    last = envelope("order.reserve", "order-z", 1, id="z", time=datetime.now(UTC))
    bus = JetStreamBus(nats.url, name="publisher", rng=Random(1))
    await bus.publish(Message("orders", last))
    await bus.close()
    assert await handled(nats.url, "orders", 2) == [given, last]


async def test_everything_of_a_topic_is_dropped(nats: Nats) -> None:
    """`drop_all` removes what it is told to and nothing else."""
    await give_up(nats.url, "orders", "a", "b")
    await give_up(nats.url, "payments", "c")
    async with open_dead_letters(nats.url) as letters:
        assert await letters.drop_all("orders") == 2
        (left,) = await letters.all()
        assert (left.topic, left.envelope.id) == ("payments", "c")
        await letters.drop(left.id)
        assert await letters.all() == []


async def test_no_server_is_a_clear_error() -> None:
    """Without a server every question fails within seconds."""
    async with open_dead_letters(f"nats://127.0.0.1:{free_port()}") as letters:
        with pytest.raises(BusUnavailable, match="NATS is away"):
            await letters.all()


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """Runs `shop dlq ARGUMENTS` against a server, in this process."""

    def run(url: str, *arguments: str) -> int:
        monkeypatch.setenv("NATS_URL", url)
        parser = argparse.ArgumentParser()
        add_commands(parser.add_subparsers(dest="command"))
        options = parser.parse_args(["dlq", *arguments])
        return int(options.run(options))

    yield run
    structlog.reset_defaults()


def test_the_command_line_from_ls_to_retry(nats: Nats, shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """`ls` and `show` tell people and programs all about a letter; `retry` and `drop` remove it."""
    asyncio.run(give_up(nats.url, "orders", "a", "b"))
    capsys.readouterr()  # the worker's log

    assert shop(nats.url, "ls") == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["ID", "TOPIC", "TYPE", "ORDER", "TIME", "ATTEMPTS", "REASON"]
    assert first.split()[:4] == ["orders-1", "orders", "order.ended", "order-a"]
    assert second.endswith("2         ValueError: a defect of two lines")

    assert shop(nats.url, "ls", "-o", "json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["envelope"]["id"] for each in listed] == ["a", "b"]
    assert shop(nats.url, "ls", "payments") == 0
    assert capsys.readouterr().out == "no dead letters\n"

    assert shop(nats.url, "show", "orders-2") == 0
    shown = capsys.readouterr().out
    assert "ValueError: a defect" in shown
    assert "FULFILLED" in shown
    assert shown.count("worker") >= 2
    assert shop(nats.url, "show", "orders-2", "-o", "json") == 0
    assert json.loads(capsys.readouterr().out) == listed[1]

    assert shop(nats.url, "retry", "orders-1") == 0
    assert capsys.readouterr().out == "orders-1 to be handled again\n"
    assert shop(nats.url, "drop", "--all") == 0
    assert capsys.readouterr().out == "1 dropped\n"
    assert [each.id for each in asyncio.run(handled(nats.url, "orders", 1))] == ["a"]


def test_the_command_line_says_what_is_wrong_in_one_line(
    nats: Nats, shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong id and an absent server are one line on stderr and the exit code 1."""
    assert shop(nats.url, "show", "orders-99") == 1
    assert capsys.readouterr() == ("", "shop dlq show: there is no dead letter 'orders-99'\n")
    assert shop(nats.url, "drop", "nonsense") == 1
    assert capsys.readouterr().err == "shop dlq drop: there is no dead letter 'nonsense'\n"
    assert shop(f"nats://127.0.0.1:{free_port()}", "ls") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "NATS is away" in lines[0]
    with pytest.raises(SystemExit):
        shop(nats.url, "retry")
    assert shop(nats.url, "drop", "orders-1", "--topic", "orders") == 2
