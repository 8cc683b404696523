"""A catalog in mode `behind` that one random number generator disturbs.

The changes, reads, drainers, log and tables are the real ones; two instances share a log in memory and a database.
Everything that runs stops at gates: before and after each call of the log, and before and after each unit of work of
the database. One thing runs at a time, from gate to gate, and the generator chooses which, so a seed repeats exactly.
At a gate an instance may die, an answer may get lost, or the run may sleep until long after others did its work.

Each change sets one field of a product to a value that no other sets, so the log tells whose effect is where.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Literal

import sqlalchemy as sa

from shop.product.v1 import product_pb2 as pb
from shop_services.messaging.compacted import StartOver
from shop_services.messaging.compacted_memory import MemoryLog, MemoryRecords
from shop_services.product import tables
from shop_services.product.behind import BehindChanges
from shop_services.product.domain import KIND, Changes, ChangeType, NewProduct, Product
from shop_services.product.drainer import Drainer
from shop_services.product.overlaid import OverlaidReads
from shop_services.product.overlay import Overlay
from shop_services.product.pending import Pending
from shop_services.product.pending_messages import load
from shop_services.product.position import Position
from shop_services.product.reads import Answer, Listing, Outcome
from shop_services.product.source import DatabaseReads
from shop_services.product.storage import Changes as ChangeRows
from shop_services.product.usecases import Products
from shop_services.product.writing_behind import writing
from shop_services.runtime.errors import Aborted, NotFound, Unavailable
from shop_services.runtime.etags import etag
from shop_services.runtime.money import Money
from shop_services.storage import Database, Replies
from tests.simulation.runs import PassingDatabase, Run, Simulation, current, gate

SKUS = ("pen", "ink", "gift")
PAUSES = (0.05, 0.5, 3.0, 3.0, 20.0, 50.0, 70.0)
ZOMBIES = 3
KEEP = 100_000

Reply = pb.UpdateProductResponse | pb.DeleteProductResponse


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller wants, perhaps more than once: `field` of a product to be `value`, or ("") the product deleted."""

    number: int
    product_id: str
    field: Literal["name", "description", "price", ""]
    etag: str
    request_id: str

    @property
    def value(self) -> Any:
        return Money("EUR", self.number) if self.field == "price" else f"v{self.number}"


@dataclass(eq=False)
class Work(Run):
    """Something that an instance does."""

    instance: Instance
    wish: Wish | None = None
    product_id: str = ""
    shown_from: int = 0
    etag_at_start: str = ""


class GatedDatabase(PassingDatabase):
    """A database with a gate before and after each unit of work."""

    async def atomically(self, work: Any) -> Any:
        await gate()
        result = await super().atomically(work)
        await gate()
        return result

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Any]:
        await gate()
        async with super().reading() as connection:
            yield connection
        await gate()


class World(Simulation[Work]):
    """The world of one simulation."""

    def __init__(self, database: GatedDatabase, products: dict[str, Product], rng: Random) -> None:
        super().__init__(rng)
        self.database = database
        self.time = 1000.0
        self.records = MemoryRecords(clock=lambda: self.time)
        self.instances = [Instance(self), Instance(self)]
        self.wishes: list[Wish] = []
        self.answered: dict[int, Reply] = {}
        self.first = products
        self.history: dict[str, list[Pending]] = {name: [Pending.of(product)] for name, product in products.items()}
        self.effects: Counter[int] = Counter()
        self.records.write = self._write  # type: ignore[method-assign]  # what is accepted is looked at

    # The model: the states of each product in the order of the log

    def _write(self, key: str, value: bytes, *, after: int, cleared: bool) -> int:
        sequence = MemoryRecords.write(self.records, key, value, after=after, cleared=cleared)
        if not cleared:
            self._accepted(key, load(value))
        return sequence

    def _accepted(self, product_id: str, state: Pending) -> None:
        last = self.history[product_id][-1]
        assert not last.deleted, f"changed after its deletion: {state}"
        if state.product == last.product and not state.deleted:
            return  # a reply was added
        run = current.get()
        assert isinstance(run, Work)
        assert run.wish is not None
        wish = run.wish
        self.effects[wish.number] += 1
        if wish.etag:
            assert wish.etag == etag(KIND, product_id, last.product.revision), "it was based on another state"
        same = {"revision": state.product.revision, "update_time": state.product.update_time}
        expected = replace(last.product, **same, **({wish.field: wish.value} if wish.field else {}))  # type: ignore[arg-type]
        assert (state.product, state.deleted) == (expected, wish.field == ""), f"{wish} made {last} {state}"
        self.history[product_id].append(state)

    def etag(self, product_id: str) -> str:
        """That of the latest state."""
        return etag(KIND, product_id, self.history[product_id][-1].product.revision)

    # What happens

    async def simulate(self, steps: int) -> None:
        """Disturb everything for so many steps; then let it come to rest, wake the dead, and let it rest again."""
        for _ in range(steps):
            await self._disturb()
        zombies = self.rng.sample(self.runs, min(ZOMBIES, len(self.runs)))
        self.runs = [run for run in self.runs if run not in zombies]
        await self._come_to_rest()
        for zombie in zombies:  # whose products others change meanwhile, write, and leave no trace of it
            if zombie.wish is not None:
                await self._change(self.instances[0], self._new_wish(zombie.wish.product_id))
        await self._come_to_rest()
        self.time += self.rng.choice([0.0, 100.0])
        for zombie in zombies:
            self.say("a zombie wakes up", zombie.name)
            await self.finish(zombie)
        await self._come_to_rest()
        await self._check_in_the_end()

    async def _disturb(self) -> None:
        instance = self.rng.choice(self.instances)
        match self.rng.randrange(24):
            case 0 | 1 | 2:
                await self._change(instance, self._new_wish())
            case 3 if again := [wish for wish in self.wishes if wish.request_id]:
                await self._change(instance, self.rng.choice(again))
            case 4 | 5 | 6:
                await self._drain(instance)
            case 7 | 8:
                await instance.follow()
            case 9 | 10:
                await self._read(instance)
            case 11 if self.rng.random() < 0.6:
                self.time += self.rng.choice(PAUSES)
                self.say(f"it is {self.time:.2f}")
            case 12 if self.rng.random() < 0.3:
                await self._kill(instance)
            case 13 if self.runs and self.rng.random() < 0.3:
                await self.kill_one()
            case _ if self.runs:
                await self.go_on(self.rng.choice(self.runs), self.rng.randint(1, 6))

    def _new_wish(self, product_id: str = "") -> Wish:
        number = len(self.wishes) + 1
        product_id = product_id or self.rng.choice(list(self.history))
        field: Any = self.rng.choices(["name", "description", "price", ""], [10, 10, 10, 1])[0]
        given = self.etag(product_id) if self.rng.random() < 0.4 else ""
        wish = Wish(number, product_id, field, given, f"r{number}" if self.rng.random() < 0.5 else "")
        self.wishes.append(wish)
        return wish

    async def _change(self, instance: Instance, wish: Wish) -> None:
        if any(run.wish and run.instance is instance and run.wish.product_id == wish.product_id for run in self.runs):
            return  # it would wait for its turn
        name = f"{instance.name} changes {wish}"
        run = Work(name, instance, wish, wish.product_id, etag_at_start=self.etag(wish.product_id))
        await self.start(run, instance.change(wish))

    async def _drain(self, instance: Instance) -> None:
        batch, _ = instance.drainer._due()
        if batch:
            batch = batch[: self.rng.choice([1, 1, 3])]
            states = [(due.sequence, due.state.product.revision, due.note is not None) for due in batch]
            await self.start(Work(f"{instance.name} drains {states}", instance), instance.drainer.drain(batch))

    async def _read(self, instance: Instance) -> None:
        product_id = self.rng.choice(list(self.history))
        run = Work(f"{instance.name} reads {product_id}", instance, product_id=product_id)
        run.shown_from = len(self.history[product_id]) - 1
        listed = self.rng.random() < 0.5
        await self.start(run, instance.listed(product_id) if listed else instance.product(product_id))

    async def _kill(self, instance: Instance) -> None:
        self.say("dies:", instance.name)
        for run in [run for run in self.runs if run.instance is instance]:
            self.runs.remove(run)
            await run.kill()
        self.instances[self.instances.index(instance)] = await Instance(self).started()

    # How runs end

    def ended(self, run: Work, error: BaseException | None) -> None:
        if isinstance(error, NotFound):
            assert self.history[run.product_id][-1].deleted, f"not found: {run.name}"
        elif isinstance(error, Aborted):
            assert run.wish is not None
            assert not (run.wish.etag == run.etag_at_start == self.etag(run.product_id)), "a valid etag was refused"
        elif error is not None:
            if not isinstance(error, Unavailable):
                raise error
        elif run.wish is not None:
            self._answered(run.wish, run.result)
        elif run.product_id:
            self._was_shown(run, run.result)

    def _answered(self, wish: Wish, answer: Answer[Any]) -> None:
        assert self.effects[wish.number] == 1, f"{self.effects[wish.number]} effects of what was acknowledged: {wish}"
        assert self.answered.setdefault(wish.number, answer.reply) == answer.reply
        if isinstance(answer.reply, pb.UpdateProductResponse):
            shown = [state.product.revision for state in self.history[wish.product_id]]
            assert answer.reply.product.etag in {etag(KIND, wish.product_id, revision) for revision in shown}

    def _was_shown(self, run: Work, product: Product | None) -> None:
        history = self.history[run.product_id]
        if product is None:
            assert history[-1].deleted
        else:
            index = [state.product for state in history if not state.deleted].index(product)
            assert index >= run.shown_from, f"shown {index}, where {run.shown_from} was acknowledged before: {run.name}"

    # The end

    async def _come_to_rest(self) -> None:
        await self.finish_all()
        for index, instance in enumerate(self.instances):
            await self._kill(instance)
            assert self.instances[index] is not instance
        for instance in self.instances:
            for _ in range(10):
                self.time += 5.0
                await instance.follow()
                if not len(instance.overlay) and not instance.overlay.orphans:
                    break
                await self._drain(instance)
                await self.finish_all()
            else:
                raise AssertionError(f"it does not come to rest: {instance.overlay}")

    async def _check_in_the_end(self) -> None:
        async with self.database.reading() as connection:
            rows = {row.id: row for row in await connection.execute(sa.select(tables.products))}
            stock = {row.product_id: row.listed for row in await connection.execute(sa.select(tables.stock))}
        for product_id, history in self.history.items():
            last = history[-1]
            assert stock[product_id] is not last.deleted
            assert (product_id in rows) is not last.deleted
            if not last.deleted:
                row, product = rows[product_id], last.product
                assert (row.name, row.description) == (product.name, product.description)
                assert (row.price_hundredths, row.revision) == (product.price.hundredths, product.revision)
        assert max(self.effects.values(), default=0) <= 1, "something was done twice"
        await self._check_changes()
        for wish in [wish for wish in self.wishes if wish.request_id and wish.number in self.answered]:
            answer = await self.instances[0].change(wish)
            assert answer.reply == self.answered[wish.number]

    async def _check_changes(self) -> None:
        """Each product's changes are states of its history, in that order, each once; the numbers have no gaps."""
        changes = await ChangeRows(self.database).after(0, KEEP)
        assert [change.revision for change in changes] == list(range(1, len(changes) + 1))
        written: defaultdict[str, list[int]] = defaultdict(list)
        for change in changes:
            history = self.history[change.product.id]
            if change.type is ChangeType.DELETED:
                written[change.product.id].append(len(history) - 1)
            else:
                found = [state.product for state in history].index(change.product)
                written[change.product.id].append(found)
        for indices in written.values():
            assert indices == sorted(set(indices)), indices


class Instance:
    """A process: its view of the log, and what works with that."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.name = f"i{world.rng.getrandbits(16):04x}"
        log = MemoryLog(world.records)
        log.interfere = self._interfere
        self._follower = log.follow()
        self.overlay = PromptOverlay(self)
        self.replies = Replies(world.database, tables.replies, self._now)
        direct = Products(world.database, lambda _change: None, self._now, lambda: "unused", keep=KEEP)
        rng = Random(world.rng.getrandbits(64))
        database = world.database
        self.changes = BehindChanges(direct, database, self.overlay, log, lambda _revision: None, self._now, rng)
        self.drainer = Drainer(
            self.overlay, log, writing(world.database, self.replies, KEEP), lambda _change: None, rng
        )
        self.reads = OverlaidReads(DatabaseReads(world.database), self.overlay, 1.0)

    async def started(self) -> Instance:
        """It, once it has read the log."""
        await self.follow()
        return self

    async def follow(self) -> None:
        """Look at the log once."""
        try:
            news = await self._follower._look()
        except StartOver as error:
            self.overlay.start_over(lost=error.lost)
            news = await self._follower._look()
        self.overlay.read(news.records, news.as_of)

    async def product(self, product_id: str) -> Product | None:
        """The product, for one who knows a revision of the catalog: such a read may miss nothing at all."""
        return (await self.reads.product(product_id, Position(1))).value

    async def listed(self, product_id: str) -> Product | None:
        """The same, from the list of all products."""
        page = (await self.reads.page(Listing("", 10), Position(1))).value
        assert page is not None
        return next((product for product in page.items if product.id == product_id), None)

    async def change(self, wish: Wish) -> Answer[Any]:
        """Do what is wished."""
        if not wish.field:
            deletion = pb.DeleteProductRequest(product_id=wish.product_id, request_id=wish.request_id)
            gone = self.replies.mutation(deletion, pb.DeleteProductResponse, _deleted)
            return await self.changes.delete(wish.product_id, wish.etag, gone)
        request = pb.UpdateProductRequest(request_id=wish.request_id, product=pb.Product(name=f"v{wish.number}"))
        changes: Changes = {wish.field: wish.value}  # type: ignore[misc]  # it is one of them
        mutation = self.replies.mutation(request, pb.UpdateProductResponse, _updated)
        return await self.changes.update(wish.product_id, changes, wish.etag, mutation)

    async def _interfere(self, _when: str, key: str) -> None:
        if key:
            await gate()

    def _now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self._world.time)


class PromptOverlay(Overlay):
    """An overlay whose follower and drainer do what is waited for, where else they run by themselves."""

    def __init__(self, instance: Instance) -> None:
        super().__init__(lambda _product_id, _note: None, clock=instance._world.records.clock)
        self._instance = instance

    async def fresh(self, oldest: float, sequence: int = 0) -> None:
        await self._instance.follow()
        await super().fresh(oldest, sequence)

    async def moved(self) -> None:
        batch, _ = self._instance.drainer._due()
        await self._instance.drainer.drain([due for due in batch if not due.sequence])


def _updated(outcome: Outcome) -> pb.UpdateProductResponse:
    product = outcome.product
    return pb.UpdateProductResponse(product=pb.Product(id=product.id, etag=etag(KIND, product.id, product.revision)))


async def prepare(database: Database) -> None:
    """Put products into an empty catalog."""

    ids = iter(SKUS)
    products = Products(database, lambda _change: None, lambda: datetime(2026, 1, 1, tzinfo=UTC), lambda: next(ids))
    replies = Replies(database, tables.replies, lambda: datetime(2026, 1, 1, tzinfo=UTC))
    for sku in SKUS:
        mutation = replies.mutation(pb.CreateProductRequest(), pb.CreateProductResponse, _created)
        await products.create(NewProduct(sku, sku, "", "things", Money("EUR", 0), 5), mutation)


def _deleted(_outcome: Outcome) -> pb.DeleteProductResponse:
    return pb.DeleteProductResponse()


def _created(_outcome: Outcome) -> pb.CreateProductResponse:
    return pb.CreateProductResponse()


@asynccontextmanager
async def open_world(path: Path, rng: Random) -> AsyncIterator[World]:
    """A world on a prepared database in a file. What still runs in the end is killed."""
    async with GatedDatabase(path, "product", pool=4) as database:
        copies = await DatabaseReads(database).products(SKUS)
        products = {name: copy.value for name, copy in copies.items() if copy.value is not None}
        world = World(database, products, rng)
        for instance in world.instances:
            await instance.started()
        try:
            yield world
        finally:
            for run in world.runs:
                await run.kill()
