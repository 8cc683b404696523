"""The bus on JetStream outlives its servers and its workers: real servers, killed, frozen and wiped."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from structlog.testing import capture_logs

from shop.events.v1.events_pb2 import DeadLetter, Envelope
from shop_services.messaging.bus import BusUnavailable, Message
from shop_services.messaging.dead_letters import DeadLetters, open_dead_letters
from shop_services.messaging.envelopes import envelope
from shop_services.messaging.jetstream import JetStreamBus, Limits, connection, pulling, streams
from shop_services.messaging.retry import RetryPolicy
from shop_services.runtime.errors import Unavailable
from tests.elapsed import measured
from tests.integration.client.proxy import Proxy
from tests.servers import Nats, NatsCluster

QUICK = RetryPolicy(attempts=10, first=0.05, longest=0.5)

OpenBus = Callable[..., AbstractAsyncContextManager[JetStreamBus]]


@pytest.fixture
def open_bus() -> OpenBus:
    @asynccontextmanager
    async def opened(
        url: str, *, replicas: int = 1, limits: Limits | None = None, ack_wait: float = 1.0
    ) -> AsyncIterator[JetStreamBus]:
        bus = JetStreamBus(url, name="tester", replicas=replicas, limits=limits, rng=Random(1), ack_wait=ack_wait)
        try:
            yield bus
        finally:
            async with measured() as elapsed:
                await bus.close()
                assert elapsed.seconds < 2.0
                assert elapsed.wall < 10.0  # also if it blocks the loop

    return opened


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is complained of since this machine stood still: for tests that count what is logged."""
    monkeypatch.setattr(pulling, "IDLE_HEARTBEAT", 30.0)  # how long one is waited for: it is sent as often as before
    monkeypatch.setattr(connection, "PROBE", 30.0)
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT", 30.0)


def message(id: str) -> Message:
    return Message("orders", envelope("order.reserve", f"order-{id}", 1, id=id, time=datetime.now(UTC)))


class Seen:
    """A handler that notes which messages it has seen."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def __call__(self, received: Envelope) -> None:
        self.ids.append(received.id)

    async def until(self, wanted: Iterable[str], seconds: float = 30.0) -> None:
        """Return when all of them were seen. Fails if nothing comes for so long: of a backlog of thousands, which a
        busy machine works off slowly, the end need not come as soon."""
        wanted = set(wanted)
        while not wanted <= set(self.ids):
            before = len(self.ids)
            await until(lambda before=before: len(self.ids) > before, seconds)  # type: ignore[misc]


async def until(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while True:
            if holds():
                return
            await asyncio.sleep(0.02)


async def some(letters: DeadLetters) -> list[DeadLetter]:
    """All dead letters, as soon as there are any."""
    async with asyncio.timeout(20):
        while True:
            if found := await letters.all():
                return found
            await asyncio.sleep(0.02)


async def until_published(bus: JetStreamBus, one: Message) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                return await bus.publish(one)
            except BusUnavailable:
                continue


async def without_blocking(step: Callable[[], object]) -> None:
    await asyncio.get_running_loop().run_in_executor(None, step)


async def while_publishing(bus: JetStreamBus, disturb: Callable[[], Awaitable[None]]) -> list[str]:
    """Publish until a while after `disturb` has returned; the ids that were acknowledged."""
    acknowledged: list[str] = []
    over = asyncio.Event()

    async def publish(publisher: int) -> None:
        number = 0
        while not over.is_set():
            number += 1
            one = f"{publisher}-{number}"
            try:
                await bus.publish(message(one))
            except BusUnavailable:
                continue
            acknowledged.append(one)

    async with asyncio.timeout(120), asyncio.TaskGroup() as publishers:
        for publisher in range(8):
            publishers.create_task(publish(publisher))
        await until(lambda: len(acknowledged) >= 50)
        await disturb()
        during = len(acknowledged)
        await until(lambda: len(acknowledged) >= during + 50)
        over.set()
    return acknowledged


async def test_a_killed_server_loses_nothing_that_it_acknowledged(tmp_path: Path, open_bus: OpenBus) -> None:
    """A server that is killed and started twice, amid publishing and handling, loses no acknowledged message."""
    server = Nats(tmp_path / "nats", sync_always=True).start()
    seen = Seen()

    async def disturb() -> None:
        for _ in range(2):
            server.kill()
            await asyncio.sleep(0.3)
            await without_blocking(server.start)
            await asyncio.sleep(0.5)

    try:
        async with (
            open_bus(server.url) as bus,
            bus.subscribe("orders", seen, concurrency=2, retries=QUICK),
        ):
            acknowledged = await while_publishing(bus, disturb)
            await seen.until(acknowledged)
    finally:
        server.kill()


async def test_a_frozen_server_is_left_and_found_again(nats: Nats, open_bus: OpenBus) -> None:
    """While the server is frozen publishing fails within its 5 s; after it messages flow again."""
    seen = Seen()
    async with open_bus(nats.url) as bus, bus.subscribe("orders", seen, concurrency=2, retries=QUICK):
        await bus.publish(message("before"))
        nats.pause()
        async with measured() as elapsed:
            begin = time.monotonic()
            with pytest.raises(BusUnavailable):
                await bus.publish(message("lost"))
            assert time.monotonic() - begin > 4.5
            assert elapsed.seconds < 6.0
        nats.resume()
        await until_published(bus, message("after"))
        await seen.until({"before", "after"})


async def test_a_bus_closes_promptly_from_a_frozen_server(nats: Nats, open_bus: OpenBus) -> None:
    """Draining and closing take less than 2 s each, although nothing answers."""
    seen = Seen()
    async with open_bus(nats.url) as bus, AsyncExitStack() as stack:  # the first asserts how long it takes to close
        async with bus.subscribe("orders", seen, concurrency=4, retries=QUICK):
            await bus.publish(message("a"))
            await seen.until({"a"})
            nats.pause()
            elapsed = await stack.enter_async_context(measured())
        assert elapsed.seconds < 2.0
        assert elapsed.wall < 10.0  # also if it blocks the loop
    nats.resume()


@pytest.mark.usefixtures("unhurried")
async def test_a_wiped_server_gets_its_streams_again(nats: Nats, open_bus: OpenBus) -> None:
    """A server that comes back empty is set up again by who publishes and by who subscribes; two lines tell of it."""
    seen = Seen()
    async with open_bus(nats.url) as bus, bus.subscribe("orders", seen, concurrency=2, retries=QUICK):
        await bus.publish(message("before"))
        await seen.until({"before"})
        with capture_logs() as logs:
            nats.kill()
            nats.wipe()
            await without_blocking(nats.start)
            await until_published(bus, message("after"))
            await seen.until({"after"})
    told = [line["event"] for line in logs]
    assert [event for event in told if event != "message handled"] == ["NATS is away", "connected to NATS again"]


async def test_a_deleted_consumer_is_made_again(nats: Nats, open_bus: OpenBus) -> None:
    """Handling goes on although somebody deletes the consumer, and then the stream, under a live connection."""
    seen = Seen()
    async with open_bus(nats.url) as bus, bus.subscribe("orders", seen, concurrency=2, retries=QUICK):
        await bus.publish(message("a"))
        await seen.until({"a"})
        jetstream = (await bus._connection.link()).jetstream
        await jetstream.delete_consumer("SHOP-orders", "orders")
        await bus.publish(message("b"))
        await seen.until({"b"})
        await jetstream.delete_stream("SHOP-orders")
        await until_published(bus, message("c"))
        await seen.until({"c"})


@pytest.mark.usefixtures("unhurried")
async def test_an_absent_server_is_waited_for(tmp_path: Path, open_bus: OpenBus) -> None:
    """A bus made before its server publishes, handles and listens as soon as that is there; one line tells of it."""
    server = Nats(tmp_path / "nats")
    seen, heard = Seen(), asyncio.Event()
    with capture_logs() as logs:
        async with (
            open_bus(server.url) as bus,
            bus.subscribe("orders", seen, concurrency=1, retries=QUICK),
            bus.listen("orders", lambda _subject: heard.set()),
        ):
            with pytest.raises(BusUnavailable):
                await bus.publish(message("early"))
            try:
                await without_blocking(server.start)
                await until_published(bus, message("a"))
                await seen.until({"a"})
                async with asyncio.timeout(30):
                    while not heard.is_set():
                        bus.announce("orders", "order-a")
                        await asyncio.sleep(0.05)
            finally:
                server.kill()
    assert [line["event"] for line in logs if line["event"] == "NATS is away"][:1] == ["NATS is away"]
    assert sum(line["event"] == "connected to NATS again" for line in logs) == 1


async def test_listening_survives_a_restart(nats: Nats, open_bus: OpenBus) -> None:
    """Announcements are heard again after the server was killed and started."""
    heard: asyncio.Queue[str] = asyncio.Queue()
    async with open_bus(nats.url) as bus, bus.listen("orders", heard.put_nowait):
        for subject in ("before", "after"):
            async with asyncio.timeout(30):
                while heard.empty() or heard.get_nowait() != subject:
                    bus.announce("orders", subject)
                    await asyncio.sleep(0.05)
            if subject == "before":
                nats.kill()
                await without_blocking(nats.start)


async def test_a_full_stream_of_dead_letters_keeps_the_message(nats: Nats, open_bus: OpenBus) -> None:
    """Where dead letters have no room the message is kept and tried to be given up again, until there is room."""

    async def failing(_envelope: Envelope) -> None:
        raise ValueError("a defect")

    policy = RetryPolicy(attempts=1, first=0.05, longest=0.1)
    limits = Limits(dead_letters=1)
    async with (
        open_dead_letters(nats.url) as letters,
        open_bus(nats.url, limits=limits) as bus,
        bus.subscribe("orders", failing, concurrency=1, retries=policy),
    ):
        with capture_logs() as logs:
            await bus.publish(message("a"))
            await bus.publish(message("b"))
            await until(lambda: any("cannot be kept" in line["event"] for line in logs))
        (first,) = await letters.all()
        await letters.drop(first.id)
        left = await some(letters)
    assert {first.envelope.id, left[0].envelope.id} == {"a", "b"}
    assert left[0].reason == "ValueError: a defect"


async def test_bytes_that_are_no_envelope_are_given_up(nats: Nats, open_bus: OpenBus) -> None:
    """What cannot be read becomes a dead letter with its bytes, and holds up nothing."""
    seen = Seen()
    async with open_bus(nats.url) as bus, bus.subscribe("orders", seen, concurrency=1, retries=QUICK):
        await bus.publish(message("a"))
        link = await bus._connection.link()
        await link.jetstream.publish("shop.orders", b"\xff\xff")
        await bus.publish(message("b"))
        await seen.until({"a", "b"})
        async with open_dead_letters(nats.url) as letters:
            found = await some(letters)
    assert found[0].raw == b"\xff\xff"
    assert found[0].reason.startswith("not an envelope")


_WORKER = """
import asyncio, sys
from random import Random
import structlog
from shop_services.messaging.jetstream import JetStreamBus
from shop_services.messaging.retry import RetryPolicy
from shop_services.runtime.errors import Unavailable

async def handler(envelope):
    print(envelope.id, flush=True)
    await asyncio.sleep(3600)

async def main():
    bus = JetStreamBus(sys.argv[1], name="doomed", rng=Random(1), ack_wait=1.0)
    async with bus.subscribe("orders", handler, concurrency=1, retries=RetryPolicy(attempts=2)):
        await asyncio.sleep(3600)

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))  # the output is for ids
asyncio.run(main())
"""


async def killed_while_handling(url: str, id: str) -> None:
    """Let a worker begin with the message, and kill it."""
    command = (sys.executable, "-c", _WORKER, url)
    worker = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert worker.stdout is not None
    try:
        async with asyncio.timeout(60):
            assert await worker.stdout.readline() == f"{id}\n".encode()
    finally:
        worker.kill()
        await worker.wait()


async def test_a_killed_workers_message_goes_to_another(nats: Nats, open_bus: OpenBus) -> None:
    """A message whose worker was killed is handled by another within seconds; one that kills all is given up."""
    async with open_bus(nats.url) as bus:
        await bus.publish(message("a"))
        await killed_while_handling(nats.url, "a")
        seen = Seen()
        async with bus.subscribe("orders", seen, concurrency=1, retries=RetryPolicy(attempts=2)):
            await seen.until({"a"}, seconds=15.0)

        await bus.publish(message("poison"))
        for _ in range(2):
            await killed_while_handling(nats.url, "poison")
        async with (
            bus.subscribe("orders", seen, concurrency=1, retries=RetryPolicy(attempts=2)),
            open_dead_letters(nats.url) as letters,
        ):
            found = await some(letters)
    assert "its worker died" in found[0].reason
    assert "poison" not in seen.ids


async def test_a_cluster_loses_a_member_and_no_message(nats_cluster: NatsCluster, open_bus: OpenBus) -> None:
    """With three copies the member in use may be killed: acknowledged messages are all handled."""
    seen = Seen()
    async with (
        open_bus(nats_cluster.url, replicas=3) as bus,
        bus.subscribe("orders", seen, concurrency=2, retries=QUICK),
    ):
        await until_published(bus, message("first"))
        await seen.until({"first"})
        connected = (await bus._connection.link()).client.connected_url
        assert connected is not None
        victim = next(member for member in nats_cluster.members if member.port == connected.port)

        async def disturb() -> None:
            victim.kill()
            await asyncio.sleep(1.0)

        acknowledged = await while_publishing(bus, disturb)
        await seen.until(acknowledged)


@pytest.mark.usefixtures("unhurried")
async def test_a_server_that_refuses_is_complained_of(nats: Nats, open_bus: OpenBus) -> None:
    """Where a stream cannot be made, publishing says why, and a worker that gets nothing says so once."""
    too_much = Limits(bytes=2**60)
    with capture_logs() as logs:
        async with (
            open_bus(nats.url, limits=too_much) as bus,
            bus.subscribe("orders", Seen(), concurrency=3, retries=QUICK),
        ):
            with pytest.raises(BusUnavailable, match="insufficient"):
                await bus.publish(message("a"))
            await until(lambda: any(line["event"] == "no messages come" for line in logs))
    complaints = [line for line in logs if line["event"] == "no messages come"]
    assert len(complaints) == 1
    assert "insufficient" in complaints[0]["reason"]


async def test_a_bound_on_what_is_in_flight_is_changed_by_the_next_worker(
    nats: Nats, open_bus: OpenBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that wait for their next attempt hold up new ones at the bound; a worker with a higher one goes on."""
    seen, patient = Seen(), RetryPolicy(first=60.0, longest=60.0)

    async def handler(envelope: Envelope) -> None:
        await seen(envelope)
        if envelope.id != "c":
            raise Unavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(streams, "IN_FLIGHT", 2)
        async with open_bus(nats.url) as bus, bus.subscribe("orders", handler, concurrency=1, retries=patient):
            for id in "abc":
                await bus.publish(message(id))
            await seen.until({"a", "b"})
            await asyncio.sleep(0.3)
            assert "c" not in seen.ids
    async with open_bus(nats.url) as bus, bus.subscribe("orders", handler, concurrency=1, retries=patient):
        await seen.until({"c"})


@pytest.mark.usefixtures("unhurried")
async def test_credentials_are_those_of_the_url(tmp_path: Path, open_bus: OpenBus) -> None:
    """A server that wants a password gets the one of the URL, decoded; with another one the bus is unavailable."""
    server = Nats(tmp_path / "nats", credentials=("shop", "p@ss:word"))
    try:
        server.start()
        address = server.url.removeprefix("nats://")
        async with open_bus(f"nats://shop:p%40ss%3Aword@{address}") as bus:
            await bus.publish(message("a"))
        async with open_bus(f"nats://shop:wrong@{address}") as bus:
            with capture_logs() as logs, pytest.raises(BusUnavailable):
                await bus.publish(message("b"))
        assert {line["event"] for line in logs} == {"NATS is away"}
        assert [line for line in logs if "Authorization" in line["reason"]] == logs[-1:]
        assert len(logs) <= 2  # the server hangs up, and what it says may get lost with that at first
        async with open_dead_letters(f"nats://shop:wrong@{address}") as letters:
            with pytest.raises(BusUnavailable, match=r"NATS is away: .*Authorization"):
                await letters.all()
    finally:
        server.kill()


async def test_workers_that_come_and_go_repeat_nothing_and_hold_nothing_up(nats: Nats, open_bus: OpenBus) -> None:
    """Messages on their way to a worker that is just being drained are handed over at once, and handled once."""
    seen, rng = Seen(), Random(7)
    wanted = [str(i) for i in range(300)]

    async def publish() -> None:
        for one in wanted:
            await bus.publish(message(one))

    # Nothing comes by itself that was not handed over, and nothing twice because this process stood still.
    async with (
        open_bus(nats.url, ack_wait=300.0) as bus,
        asyncio.timeout(120),
        asyncio.TaskGroup() as publisher,
    ):
        publisher.create_task(publish())
        while len(set(seen.ids)) < len(wanted):
            async with bus.subscribe("orders", seen, concurrency=4, retries=QUICK) as subscription:
                await asyncio.sleep(rng.uniform(0, 0.03))
                await subscription.drain(30.0)
    assert sorted(seen.ids) == sorted(wanted)


@pytest.mark.usefixtures("unhurried")
async def test_a_message_that_comes_after_the_drain_is_handed_back(nats: Nats, open_bus: OpenBus) -> None:
    """A worker that does not hear its server leaves without what is on its way; when that comes, another has it."""
    proxy = await Proxy(nats.port).start()
    early, late = Seen(), Seen()
    async with (
        open_bus(nats.url, ack_wait=300.0) as other,
        open_bus(f"nats://127.0.0.1:{proxy.port}", ack_wait=300.0) as slow,
        asyncio.timeout(60),
    ):
        async with slow.subscribe("orders", early, concurrency=1, retries=QUICK) as subscription:
            await other.publish(message("0"))
            await until(lambda: early.ids == ["0"] and subscription._pulls[0]._asked)
            proxy.back.freeze()
            await other.publish(message("1"))
            server = (await other._connection.link()).jetstream
            while (await server.consumer_info("SHOP-orders", "orders")).delivered.stream_seq < 2:
                continue  # until it is on its way
            await subscription.drain(30.0)
        async with other.subscribe("orders", late, concurrency=1, retries=QUICK):
            proxy.thaw()
            await late.until(["1"])
    assert (early.ids, late.ids) == (["0"], ["1"])
    await proxy.stop()
