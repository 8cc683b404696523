"""A checkout that one random number generator disturbs.

The use cases, handlers, sweep and tables of orders are the real ones, beside stock and payments in memory that keep
their real contracts.

Everything that runs stops at gates: before and after each call of another service, and before and after each
transaction. One thing runs at a time, from gate to gate, and the generator chooses which, so a seed repeats exactly. At
a gate a process may die, its call may fail though it was done, or it may sleep until long after others did its work.
Messages are delivered in any order, twice, late, or never.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.messaging.bus import Message, Reject
from shop_services.order.domain import Line, Order
from shop_services.order.saga import Status
from shop_services.product.inventory_domain import State
from shop_services.runtime.errors import FailedPrecondition, Unavailable
from shop_services.runtime.money import Money
from tests.simulation.runs import PassingDatabase, Run, Simulation, gate
from tests.unit.services.order.fake_payments import FakePayments
from tests.unit.services.order.fake_stock import FakeStock
from tests.unit.services.order.pipeline import Pipeline

STOCK = {"pen": 6, "ink": 5, "gift": 5}
CARDS = ("pm_card_visa", "pm_card_visa", "pm_card_visa", "pm_card_chargeDeclined")
ZOMBIES = 3
ORDERS = 8


@dataclass(eq=False)
class Step(Run):
    """Something that is done to orders. `message` is what it handles; `order_id` is what it cancels."""

    message: Message | None = None
    order_id: str = ""


class GatedDatabase(PassingDatabase):
    """A database with a gate before and after each transaction."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "order", pool=2)
        self.outbox = MemoryOutbox()

    async def atomically(self, work: Any) -> Any:
        await gate()
        self.outbox.written = ()
        result = await super().atomically(work)
        self.outbox.waiting.extend(self.outbox.written)
        self.outbox.written = ()
        await gate()
        return result


class MemoryOutbox:
    """What an outbox promises, without its table: what a transaction wrote waits from its commit on. One at a time."""

    def __init__(self) -> None:
        self.written: Sequence[Message] = ()
        self.waiting: list[Message] = []

    async def add(self, _connection: AsyncConnection, messages: Sequence[Message]) -> None:
        self.written = messages

    def committed(self, messages: Sequence[Message]) -> None:
        """The relay takes them in its own time."""


class GatedStock(FakeStock):
    """Stock with a gate before and after each call."""

    async def reserve(self, order_id: str, lines: Sequence[Line]) -> None:
        await gate()
        await super().reserve(order_id, lines)
        await gate()

    async def commit(self, order_id: str) -> None:
        await gate()
        await super().commit(order_id)
        await gate()

    async def release(self, order_id: str) -> None:
        await gate()
        await super().release(order_id)
        await gate()


class GatedPayments(FakePayments):
    """Payments with a gate before and after each call."""

    async def authorize(self, key: str, amount: Money, method: str) -> None:
        await gate()
        await super().authorize(key, amount, method)
        await gate()

    async def capture(self, key: str) -> None:
        await gate()
        await super().capture(key)
        await gate()

    async def refund(self, key: str) -> None:
        await gate()
        await super().refund(key)
        await gate()


class Checkout(Simulation[Step]):
    """The world of one simulation."""

    def __init__(self, database: GatedDatabase, rng: Random) -> None:
        super().__init__(rng)
        self.stock = GatedStock(**STOCK)
        self.payments = GatedPayments()
        self.outbox = database.outbox
        self.pipeline = Pipeline(database, stock=self.stock, payments=self.payments, outbox=self.outbox)
        self.told_of: list[str] = []
        self.queued: list[Message] = []
        self.told: defaultdict[str, set[str]] = defaultdict(set)
        self.cancelled: set[str] = set()
        self.dead: list[str] = []
        self.created = 0

    async def simulate(self, steps: int) -> None:
        """Disturb everything for so many steps; then let it come to rest, wake the dead, and let it rest again."""
        for _ in range(steps):
            await self._disturb()
            self._check_always()
        zombies = await self._fall_asleep()
        await self._come_to_rest()
        for zombie in zombies:
            self.say("a zombie wakes up", zombie.name)
            await self.finish(zombie)
        await self._come_to_rest()
        self._check_always()
        await self._check_in_the_end()

    async def _fall_asleep(self) -> list[Step]:
        """Begin with some messages and take some of all runs away, to wake them later; their orders are cancelled."""
        for _ in self.queued[:]:
            await self._deliver()
        for run in self.runs[:]:
            await self.go_on(run, self.rng.randint(0, 3))
        handling = [run for run in self.runs if run.message]
        zombies = self.rng.sample(handling, min(ZOMBIES, len(handling)))
        for zombie in zombies:
            self.runs.remove(zombie)
            if zombie.message and self.rng.random() < 0.8:
                await self._cancel(zombie.message.envelope.order_id)
        return zombies

    async def _disturb(self) -> None:
        match self.rng.randrange(20):
            case 0 if self.created < ORDERS:
                await self._create()
            case 1 if self.told_of:
                await self._cancel(self.rng.choice(self.told_of))
            case 2 if handled := [run.message.envelope.order_id for run in self.runs if run.message]:
                await self._cancel(self.rng.choice(handled))
            case 3:
                self.pipeline.clock.now += timedelta(seconds=self.rng.choice([1, 40, 300]))
                await self.start(Step("sweep"), self.pipeline.sweep.sweep())
            case 4 | 5 | 6 | 7:
                self._relay(twice=self.rng.random() < 0.1)
            case 8 | 9 | 10 | 11:
                await self._deliver()
            case 12 if self.queued and self.rng.random() < 0.3:
                self.say("lost", self.queued.pop(self.rng.randrange(len(self.queued))).envelope.id)
            case 13 if self.runs:
                await self.kill_one()
            case _ if self.runs:
                await self.go_on(self.rng.choice(self.runs), self.rng.randint(1, 6))

    async def _create(self) -> None:
        self.created += 1
        lines = [Line(self.rng.choice(list(STOCK)), self.rng.randint(1, 3))]
        card = self.rng.choice(CARDS)
        work = self.pipeline.create(f"r{self.created}", "ann", lines, card)
        await self.start(Step(f"create {self.created}: {lines[0].quantity} {lines[0].product_id}, {card}"), work)

    async def _cancel(self, order_id: str) -> None:
        await self.start(Step(f"cancel {order_id}", order_id=order_id), self.pipeline.cancel(order_id))

    def _relay(self, *, twice: bool = False) -> None:
        if self.outbox.waiting:
            message = self.rng.choice(self.outbox.waiting)
            self.say("published", message.envelope.id, message.envelope.type)
            if message.topic == "notifications":
                self.told[message.envelope.order_id].add(message.envelope.id)
            else:
                self.queued.append(message)
            if not twice:
                self.outbox.waiting.remove(message)

    async def _deliver(self) -> None:
        if self.queued:
            message = self.rng.choice(self.queued)
            name = f"{message.envelope.type} {message.envelope.id} of {message.envelope.order_id}"
            await self.start(Step(name, message), self._handle(message))

    async def _handle(self, message: Message) -> None:
        await self.pipeline.handlers.of(message.topic)(message.envelope)

    def ended(self, run: Step, error: BaseException | None) -> None:
        if isinstance(error, Reject):
            self.dead.append(str(error))
        elif error is None:
            if isinstance(created := run.result, Order):
                self.told_of.append(created.id)
            if run.message in self.queued and self.rng.random() < 0.9:  # or its acknowledgement was lost
                self.queued.remove(run.message)
            if run.order_id:
                self.cancelled.add(run.order_id)
        elif not isinstance(error, Unavailable | FailedPrecondition):
            raise error

    async def _come_to_rest(self) -> None:
        for _ in range(30):
            await self.finish_all()
            while self.outbox.waiting:
                self._relay()
            if self.queued:
                for _ in range(3 * len(self.queued)):
                    await self._deliver()
                    await self.finish_all()
                continue
            self.pipeline.clock.now += timedelta(hours=2)
            if not await self.pipeline.sweep.sweep():
                return
        raise AssertionError("it does not come to rest")

    def _check_always(self) -> None:
        assert not self.dead, self.dead
        for name, stock in self.stock.stock.items():
            assert min(stock.available, stock.reserved, stock.committed) >= 0, stock
            assert stock.available + stock.reserved + stock.committed == STOCK[name], stock

    async def _check_in_the_end(self) -> None:
        orders = await self.pipeline.all()
        sold: defaultdict[str, int] = defaultdict(int)
        for order in orders:
            assert order.status.final, order
            assert len(self.told[order.id]) == 1, f"told {len(self.told[order.id])} times: {order}"
            self._check_ended(order)
            if order.status is Status.FULFILLED:
                for line in order.lines:
                    sold[line.product_id] += line.quantity
        for name, stock in self.stock.stock.items():
            assert (stock.committed, stock.reserved) == (sold[name], 0), stock
        cancelled = {order.id for order in orders if order.status is Status.CANCELLED}
        assert self.cancelled <= cancelled

    def _check_ended(self, order: Order) -> None:
        charge = self.payments.charges.get(order.id)
        net = charge.net if charge else 0
        if order.status is Status.FULFILLED:
            assert net == order.total.hundredths, f"charged {net}: {order}"
            assert self.stock.state(order.id) is State.COMMITTED, order
        else:
            assert net == 0, f"charged {net}: {order}"
            assert self.stock.state(order.id) is State.RELEASED, order


@asynccontextmanager
async def open_checkout(database: Path, rng: Random) -> AsyncIterator[Checkout]:
    """A checkout on an empty, migrated database in a file. What still runs in the end is killed."""
    async with GatedDatabase(database) as opened:
        checkout = Checkout(opened, rng)
        try:
            yield checkout
        finally:
            for run in checkout.runs:
                await run.kill()
            await checkout.pipeline.watches.close()
