"""A mutation is done once for each request id, whoever repeats it and when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.testing import capture_logs

from shop.user.v1 import user_pb2 as pb
from shop_services.runtime.errors import AlreadyExists, InvalidArgument, NotFound
from shop_services.storage import Contended, Database, Mutation, Replies, make_metadata, replies_table
from shop_services.storage.idempotency import KEPT

metadata = make_metadata()
table = replies_table(metadata, "test")
names = sa.Table("names", metadata, sa.Column("name", sa.String(50), unique=True))


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    """The time of `replies`."""
    return Clock()


@pytest.fixture
async def replies(database: Database, clock: Clock) -> Replies:
    """Kept replies, on empty tables."""
    async with database.transaction() as connection:
        await connection.run_sync(metadata.create_all)
    return Replies(database, table, clock)


def _request(request_id: str, username: str = "ann", password: str = "") -> pb.CreateUserRequest:
    return pb.CreateUserRequest(request_id=request_id, username=username, password=password)


def _mutation(replies: Replies, request: pb.CreateUserRequest) -> Mutation[str, pb.CreateUserResponse]:
    def present(name: str) -> pb.CreateUserResponse:
        return pb.CreateUserResponse(user=pb.User(username=name))

    return replies.mutation(request, pb.CreateUserResponse, present, secrets=["password"])


def _adding(name: str, ran: list[str] | None = None) -> Callable[[AsyncConnection], asyncio.Future[str]]:
    """Work that adds a unique name, and takes its time."""

    async def work(connection: AsyncConnection) -> str:
        if ran is not None:
            ran.append(name)
        try:
            await connection.execute(names.insert().values(name=name))
        except sa.exc.IntegrityError:
            raise AlreadyExists("name", "name", name) from None
        await asyncio.sleep(0.01)
        return name

    return work  # type: ignore[return-value]


async def _names(database: Database) -> list[str]:
    async with database.reading() as connection:
        return list((await connection.execute(sa.select(names.c.name).order_by(names.c.name))).scalars())


async def test_a_repeated_request_gets_the_first_reply(database: Database, replies: Replies) -> None:
    """The work is not run again, and the reply is the same."""
    ran: list[str] = []
    first = await _mutation(replies, _request("r1")).commit(_adding("ann", ran))
    again = _mutation(replies, _request("r1"))
    assert await again.earlier() == first
    assert await again.commit(_adding("other", ran)) == first
    assert ran == ["ann"]
    assert await _names(database) == ["ann"]


async def test_only_what_was_committed_is_told(
    database: Database, replies: Replies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each effect: not for a repetition, nor for an attempt that was rolled back before another came first."""
    told: list[str] = []
    other: list[asyncio.Task[object]] = []

    async def contended(_connection: AsyncConnection) -> str:
        assert not other
        other.append(asyncio.ensure_future(_mutation(replies, _request("r1")).commit(_adding("ann"), told.append)))
        raise Contended("others were first")

    transaction = database.transaction

    @asynccontextmanager
    async def after_the_other() -> AsyncIterator[AsyncConnection]:
        if other and asyncio.current_task() is not other[0]:
            await asyncio.wait(other)
        async with transaction() as connection:
            yield connection

    monkeypatch.setattr(database, "transaction", after_the_other)
    mutation = _mutation(replies, _request("r1"))
    assert await mutation.commit(contended, lambda _: told.append("rolled back")) == await other[0]
    assert await mutation.commit(_adding("bob"), told.append) == await other[0]
    assert told == ["ann"]


async def test_concurrent_repetitions_do_the_work_once(database: Database, database_url: str, replies: Replies) -> None:
    """Many at the same time, on several instances: one effect, one reply, and no error, not even of the effect."""
    ran: list[str] = []
    async with Database(database_url, service="other") as other, asyncio.timeout(20):
        instances = [replies, Replies(other, table, replies.clock)]
        mutations = [_mutation(instances[n % 2], _request("r1")) for n in range(20)]
        answers = await asyncio.gather(*(mutation.commit(_adding("ann", ran)) for mutation in mutations))
    assert {answer.user.username for answer in answers} == {"ann"}
    assert await _names(database) == ["ann"]


async def test_an_id_belongs_to_one_request(database: Database, replies: Replies) -> None:
    """With another body the id is refused by name, before and at the commit, and nothing is done."""
    await _mutation(replies, _request("r1")).commit(_adding("ann"))
    other = _mutation(replies, _request("r1", username="bob"))
    for call in (other.earlier(), other.commit(_adding("bob"))):
        with pytest.raises(InvalidArgument) as caught:
            await call
        assert [path for path, _ in caught.value.violations] == ["request_id"]
    assert await _names(database) == ["ann"]


async def test_the_same_id_of_another_rpc_is_another_request(replies: Replies) -> None:
    """Ids are told apart by the type of the request."""
    await _mutation(replies, _request("r1")).commit(_adding("ann"))

    def present(_name: str) -> pb.DeleteUserResponse:
        return pb.DeleteUserResponse()

    deletion = replies.mutation(pb.DeleteUserRequest(request_id="r1", user_id="u"), pb.DeleteUserResponse, present)
    assert await deletion.earlier() is None
    assert await deletion.commit(_adding("bob")) == pb.DeleteUserResponse()
    assert await deletion.earlier() == pb.DeleteUserResponse()


async def test_a_failed_request_is_tried_again(database: Database, replies: Replies) -> None:
    """What was raised is raised; nothing is kept, so the id can be used again."""

    async def failing(connection: AsyncConnection) -> str:
        await connection.execute(names.insert().values(name="half"))
        raise NotFound("user", "u")

    mutation = _mutation(replies, _request("r1"))
    with pytest.raises(NotFound):
        await mutation.commit(failing)
    assert await mutation.earlier() is None
    assert await _names(database) == []
    await mutation.commit(_adding("ann"))
    assert await _names(database) == ["ann"]


async def test_without_an_id_every_request_is_new(database: Database, replies: Replies) -> None:
    """Nothing is kept for it."""
    for name in ("ann", "bob"):
        mutation = _mutation(replies, _request(""))
        assert await mutation.earlier() is None
        await mutation.commit(_adding(name))
    assert await _names(database) == ["ann", "bob"]
    with pytest.raises(AlreadyExists):
        await _mutation(replies, _request("")).commit(_adding("ann"))


async def test_secrets_are_not_part_of_what_is_kept(database: Database, replies: Replies) -> None:
    """A repetition with another password is the same request: no hash of the password could give it away."""
    await _mutation(replies, _request("r1", password="one")).commit(_adding("ann"))
    again = await _mutation(replies, _request("r1", password="two")).earlier()
    assert again is not None
    request = _request("r2", password="one")
    await _mutation(replies, request).commit(_adding("bob"))
    assert request.password == "one"


async def test_replies_are_kept_for_a_day_and_then_swept(replies: Replies, clock: Clock) -> None:
    """A sweep deletes what is older, and only that."""
    await _mutation(replies, _request("old")).commit(_adding("old"))
    clock.time += KEPT - timedelta(seconds=1)
    await _mutation(replies, _request("new")).commit(_adding("new"))
    assert await replies.sweep() == 0
    clock.time += timedelta(seconds=2)
    assert await replies.sweep() == 1
    assert await _mutation(replies, _request("old")).earlier() is None
    assert await _mutation(replies, _request("new")).earlier() is not None


class Watched(Replies):
    """Tells of each sweep that has ended, however it did."""

    def __init__(self, database: Database, table: sa.Table, clock: Clock) -> None:
        super().__init__(database, table, clock)
        self.swept = asyncio.Event()

    async def sweep(self) -> int:
        try:
            return await super().sweep()
        finally:
            self.swept.set()


async def test_sweeping_goes_on_by_itself_and_ends_with_its_block(
    database: Database, replies: Replies, clock: Clock
) -> None:
    """The task sweeps when the block begins, and is gone after it."""
    await _mutation(replies, _request("old")).commit(_adding("old"))
    clock.time += KEPT * 2
    watched = Watched(database, table, clock)
    async with watched.sweeping():
        await asyncio.wait_for(watched.swept.wait(), 30)
    assert await _mutation(replies, _request("old")).earlier() is None
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("sweep")]


async def test_sweeping_survives_a_failure(database: Database, clock: Clock) -> None:
    """Without its table it logs, and tries again later."""
    watched = Watched(database, replies_table(make_metadata(), "missing"), clock)
    with capture_logs() as entries:
        async with watched.sweeping():
            (task,) = [task for task in asyncio.all_tasks() if task.get_name() == "sweep missing_replies"]
            await asyncio.wait_for(watched.swept.wait(), 30)
            await asyncio.sleep(0)
            assert not task.done()
    assert [entry["event"] for entry in entries] == ["sweep_failed"]


async def test_a_reply_can_be_kept_by_other_means(database: Database, replies: Replies) -> None:
    """It is found among those that are on their way, written once however often, and found in the table then."""
    first, others = _mutation(replies, _request("r1")), [_mutation(replies, _request(f"o{n}")) for n in range(150)]
    reply, kept = first.replied("ann")
    assert kept is not None
    many = [one for other in others if (one := other.replied("bob")[1]) is not None]
    assert _mutation(replies, _request("r1")).among([*many, kept]) == reply
    assert _mutation(replies, _request("r2")).among([*many, kept]) is None
    with pytest.raises(InvalidArgument, match="request_id"):
        _mutation(replies, _request("r1", "other")).among([kept])
    for written in ([kept], [*many, kept], []):
        async with database.transaction() as connection:
            await replies.keep(connection, written)
    assert await _mutation(replies, _request("r1")).earlier() == reply
    async with database.reading() as connection:
        assert (await connection.execute(sa.select(sa.func.count()).select_from(table))).scalar_one() == 151


async def test_a_request_without_an_id_has_no_reply_to_keep(replies: Replies) -> None:
    """It gets its reply, and a repetition is another request."""
    reply, kept = _mutation(replies, _request("")).replied("ann")
    assert (reply.user.username, kept) == ("ann", None)
