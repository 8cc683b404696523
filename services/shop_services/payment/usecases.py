"""What can be done with payments."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.payment import storage
from shop_services.payment.cards import decline_code
from shop_services.payment.domain import KIND, Action, Payment, State, Terms
from shop_services.payment.simulation import Simulation
from shop_services.runtime.errors import InvalidArgument, NotFound
from shop_services.runtime.money import Money
from shop_services.runtime.paging import Page, make_page, read_token
from shop_services.runtime.times import Clock
from shop_services.storage import Database

_QUERY = {"list": "payments"}


class Payments:
    """The provider. What it did is in its ledger before `simulation` can go wrong."""

    def __init__(self, database: Database, simulation: Simulation, clock: Clock) -> None:
        self._database = database
        self._simulation = simulation
        self._clock = clock

    async def authorize(self, key: str, amount: Money, method: str) -> Payment:
        """Set `amount` aside on a card, if the card pays.

        Raises:
            InvalidArgument: there is nothing to pay, or the key was used with another amount or card.
            PaymentRefused: the card was refused, now or before.
            PaymentVoided: the payment was refunded before.
        """
        if amount.hundredths <= 0:
            raise InvalidArgument.of("amount", "must be more than nothing")
        await self._simulation.before(method)
        code = decline_code(amount, method)
        if not code and await self._simulation.refuses():
            code = "generic_decline"
        action = Action.DECLINE if code else Action.AUTHORIZE
        return (await self._step(key, action, Terms(amount, method, code))).require()

    async def capture(self, key: str) -> Payment:
        """Take what was authorized.

        Raises:
            NotFound: nothing was ever asked for with this key.
            PaymentRefused: the card was refused.
            PaymentVoided: the payment was refunded before.
        """
        await self._simulation.before()
        return (await self._step(key, Action.CAPTURE)).require()

    async def refund(self, key: str) -> Payment:
        """Make the net charge zero, for ever."""
        await self._simulation.before()
        return await self._step(key, Action.REFUND)

    async def get(self, key: str) -> Payment:
        """The payment with that key. Raises `NotFound`."""
        async with self._database.snapshot() as connection:
            payment = await storage.get(connection, key)
        if payment.state is State.UNSEEN:
            raise NotFound(KIND, key)
        return payment

    async def page(self, size: int, token: str, weigh: Callable[[Payment], int]) -> Page[Payment]:
        """Payments by key. Raises `InvalidArgument` for a bad token."""
        (after,) = read_token(token, _QUERY, (str,)) or ("",)
        async with self._database.snapshot() as connection:
            found = await storage.page(connection, after, size + 1)
        return make_page(found, size, _QUERY, lambda payment: (payment.key,), weigh)

    async def _step(self, key: str, action: Action, terms: Terms | None = None) -> Payment:
        async def work(connection: AsyncConnection) -> tuple[State, Payment]:
            before = await storage.lock(connection, key)
            state, agreed = before.after(action, terms)
            if state is before.state:
                return state, before
            return before.state, await storage.record(connection, before, state, agreed, self._clock())

        was, payment = await self._database.atomically(work)
        await self._simulation.after(was, payment)
        return payment
