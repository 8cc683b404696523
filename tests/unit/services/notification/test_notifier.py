"""One e-mail an order, whatever comes twice, fails or dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from shop.events.v1.events_pb2 import Envelope
from shop_services.messaging.bus import Reject
from shop_services.messaging.inbox import Inbox
from shop_services.notification import storage
from shop_services.notification.domain import Mail, Recipient, State
from shop_services.notification.notifier import NO_ACCOUNT, Notifier
from shop_services.notification.post import MailRefused, RecipientRefused
from shop_services.runtime.errors import Unavailable
from tests.unit.services.notification.doubles import Crash, KeptPost, KnownUsers, MortalDatabase
from tests.unit.services.notification.orders import NOON, SENDER, ended, ending


@dataclass
class Worker:
    """A notifier over a real database, with users and a mail server in memory."""

    database: MortalDatabase
    users: KnownUsers
    post: KeptPost
    notifier: Notifier

    async def mail(self, order_id: str = "o1") -> Mail:
        """The one e-mail about an order."""
        async with self.database.reading() as connection:
            found = await storage.find(connection, order_id)
        assert found is not None
        return found

    async def count(self, table: sa.Table) -> int:
        """How many rows a table has."""
        async with self.database.reading() as connection:
            return int((await connection.execute(sa.select(sa.func.count()).select_from(table))).scalar_one())


@asynccontextmanager
async def working(directory: Path) -> AsyncIterator[Worker]:
    async with MortalDatabase(f"sqlite:///{directory}/mail.db", service="notification") as database:
        database.deaths = []
        async with database.engine.begin() as connection:
            await connection.run_sync(storage.metadata.create_all)
        users, post = KnownUsers(), KeptPost()
        inbox = Inbox(database, storage.inbox, lambda: NOON)
        yield Worker(database, users, post, Notifier(database, inbox, users, post, SENDER, lambda: NOON))


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Worker]:
    async with working(tmp_path) as made:
        yield made


async def test_an_ended_order_is_told_once(worker: Worker) -> None:
    """The user gets an e-mail, it is recorded as sent, and a repetition sends nothing."""
    for _ in range(3):
        await worker.notifier.handle(ended(ending()))
    [(recipient, message_id, _)] = worker.post.taken
    assert (recipient, message_id) == ("ann@example.com", "<order-o1@shop.example>")
    mail = await worker.mail()
    assert (mail.state, mail.attempts, mail.reason, mail.sent_time) == (State.SENT, 1, "", NOON)
    assert mail.recipient == Recipient("ann@example.com", "Ann")


async def test_another_message_about_the_same_order_sends_nothing(worker: Worker) -> None:
    """An order has one e-mail, also if it is told twice in messages of their own."""
    await worker.notifier.handle(ended(ending()))
    await worker.notifier.handle(ended(ending(), id="another"))
    assert len(worker.post.taken) == 1
    assert await worker.count(storage.mails) == 1


async def test_a_closed_account_gets_nothing(worker: Worker) -> None:
    """The e-mail is skipped for a reason, and stays skipped if somebody else is called that later."""
    del worker.users.known["u1"]
    await worker.notifier.handle(ended(ending()))
    worker.users.known["u1"] = Recipient("bob@example.com", "Bob")
    await worker.notifier.handle(ended(ending()))
    mail = await worker.mail()
    assert (mail.state, mail.reason, mail.attempts) == (State.SKIPPED, NO_ACCOUNT, 0)
    assert worker.post.taken == []


@pytest.mark.parametrize(
    ("address", "refusal", "reason"),
    [
        ("ann@example.com", RecipientRefused("550 no such user"), "550 no such user"),
        ("a..b@example.com", None, "the address cannot be written in an e-mail"),
    ],
)
async def test_a_wrong_address_is_skipped(worker: Worker, address: str, refusal: Exception | None, reason: str) -> None:
    """Nothing is tried again, and nothing is given up: the message is done."""
    worker.users.known["u1"] = Recipient(address, "Ann")
    worker.post.fails += [refusal] if refusal else []
    await worker.notifier.handle(ended(ending()))
    mail = await worker.mail()
    assert (mail.state, mail.reason, mail.attempts) == (State.SKIPPED, reason, 1)
    assert worker.post.taken == []


async def test_what_the_mail_server_never_takes_is_rejected_and_can_be_retried(worker: Worker) -> None:
    """The message goes to the dead letters, the e-mail stays pending, and a retry from there sends it."""
    worker.post.fails.append(MailRefused("554 looks like spam"))
    with pytest.raises(Reject, match="554 looks like spam"):
        await worker.notifier.handle(ended(ending()))
    mail = await worker.mail()
    assert (mail.state, mail.reason, mail.attempts) == (State.PENDING, "554 looks like spam", 1)
    await worker.notifier.handle(ended(ending()))
    mail = await worker.mail()
    assert (mail.state, mail.reason, mail.attempts) == (State.SENT, "", 2)


async def test_a_mail_server_that_is_away_is_tried_again(worker: Worker) -> None:
    """The failure is the bus's to repeat; then the e-mail is sent to whom it was recorded for, without asking again."""
    worker.post.fails.append(Unavailable("connection refused"))
    with pytest.raises(Unavailable, match="connection refused"):
        await worker.notifier.handle(ended(ending()))
    assert (await worker.mail()).reason == "connection refused"
    worker.users.away = True
    await worker.notifier.handle(ended(ending()))
    assert [recipient for recipient, _, _ in worker.post.taken] == ["ann@example.com"]


async def test_users_that_are_away_leave_nothing_behind(worker: Worker) -> None:
    """Without the user's address nothing is recorded, so that the message is handled when it comes again."""
    worker.users.away = True
    with pytest.raises(Unavailable, match="no users"):
        await worker.notifier.handle(ended(ending()))
    assert (await worker.count(storage.mails), await worker.count(storage.inbox)) == (0, 0)


async def test_a_death_between_sending_and_marking_sends_the_same_again(worker: Worker) -> None:
    """What the mail server got before the crash and after it has one Message-ID, and the very same bytes."""
    worker.database.deaths = [(1, False)]
    with pytest.raises(Crash):
        await worker.notifier.handle(ended(ending()))
    assert (await worker.mail()).state is State.PENDING
    await worker.notifier.handle(ended(ending()))
    first, second = worker.post.taken
    assert first == second
    mail = await worker.mail()
    assert (mail.state, mail.attempts) == (State.SENT, 2)


async def test_a_message_that_makes_no_sense_is_rejected(worker: Worker) -> None:
    """Nothing is recorded of it."""
    with pytest.raises(Reject):
        await worker.notifier.handle(Envelope(id="m1", type="order.ended", order_id="o1"))
    assert (await worker.count(storage.mails), await worker.count(storage.inbox)) == (0, 0)


Fault = str | tuple[int, bool]
faults = st.one_of(
    st.sampled_from(["none", "users away", "post away", "post silent", "mail refused", "death after sending"]),
    st.tuples(st.integers(0, 2), st.booleans()),  # a death in that transaction, before its commit or after it
)
deliveries = st.lists(st.tuples(faults, st.integers(1, 3), st.sampled_from(["", "b"])), max_size=8)

Stage = tuple[asyncio.Runner, Worker]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One worker for many histories, each about an order of its own."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        yield runner, runner.run(stack.enter_async_context(working(tmp_path_factory.mktemp("stage"))))
        runner.run(stack.aclose())


@settings(deadline=None)
@given(history=deliveries)
def test_any_history_leaves_one_mail_an_order(stage: Stage, history: Sequence[tuple[Fault, int, str]]) -> None:
    """Deliveries come again, several at once, and fail or die anywhere: one e-mail is recorded, and it is sent."""
    runner, worker = stage
    order_id = uuid4().hex

    async def play() -> None:
        worker.post.taken.clear()
        before = await worker.count(storage.mails)
        for fault, times, suffix in history:
            await _deliver(worker, fault, times, ended(ending(order_id=order_id), id=order_id + suffix))
        await _deliver(worker, "none", 1, ended(ending(order_id=order_id), id=order_id))
        mail = await worker.mail(order_id)
        assert await worker.count(storage.mails) == before + 1
        assert mail.state is State.SENT
        assert len(set(worker.post.taken)) == 1
        assert mail.attempts >= len(worker.post.taken)

    runner.run(play())


async def _deliver(worker: Worker, fault: Fault, times: int, message: Envelope) -> None:
    """Deliver a message so many times at once, while something is wrong."""
    kind = fault if isinstance(fault, str) else "death"
    worker.users.away = kind == "users away"
    away = [Unavailable("away")] * times
    fails: dict[str, list[BaseException]] = {"post away": [*away], "mail refused": [MailRefused("554")]}
    silent: dict[str, list[BaseException]] = {"post silent": [*away], "death after sending": [Crash()]}
    worker.post.fails, worker.post.silent = fails.get(kind, []), silent.get(kind, [])
    worker.database.deaths = [] if isinstance(fault, str) else [fault]

    async def once() -> None:
        with suppress(Unavailable, Reject, Crash):
            await worker.notifier.handle(message)

    await asyncio.gather(*(once() for _ in range(times)))
