"""Payments over real servers and databases: charged once or not at all, whatever comes at once, again or too late."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import grpc
import pytest
import sqlalchemy as sa

from shop.payment.v1 import payment_pb2 as pb
from shop_services.payment.tables import ledger
from shop_services.payment.wiring import NAME
from shop_services.runtime.money import Money
from shop_services.runtime.status import info_of
from shop_services.runtime.times import utc_now
from shop_services.storage import Database, violated_constraint
from tests.integration.payment.till import (
    AMOUNT,
    AUTHORIZED,
    CAPTURED,
    REFUNDED,
    REFUSED,
    VOIDED,
    Start,
    Till,
    movements,
    net,
)
from tests.integration.product.shop import failure

Code = grpc.StatusCode


async def _reason(call: Awaitable[object]) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    info = info_of(caught.value)
    return caught.value.code(), info.reason, dict(info.metadata)


async def test_the_ledger_has_every_cent(till: Till) -> None:
    """Each step adds its entry, the charge is the sum of them, and the payment shows what was asked for."""
    await till.authorize("o1")
    captured = await till.capture("o1")
    assert (movements(captured), net(captured)) == ([(AUTHORIZED, 0), (CAPTURED, 1250)], 1250)
    refunded = await till.refund("o1")
    assert (movements(refunded), net(refunded)) == ([(AUTHORIZED, 0), (CAPTURED, 1250), (REFUNDED, -1250)], 0)
    assert (refunded.key, refunded.state, refunded.payment_method) == ("o1", REFUNDED, "pm_card_visa")
    assert refunded.create_time == refunded.entries[0].time
    numbers = [entry.number for entry in refunded.entries]
    assert numbers == sorted(numbers)
    assert await till.get("o1") == refunded


async def test_every_step_can_be_repeated(start: Start) -> None:
    """A step asked for twenty times at once at two instances is one entry, and always gives the same answer."""
    tills = [await start(), await start()]
    steps: list[Callable[[Till, str], Awaitable[pb.Payment]]] = [Till.authorize, Till.capture, Till.refund]
    for count, step in enumerate(steps, start=1):
        answers = await asyncio.gather(*(step(tills[i % 2], "o1") for i in range(20)))
        assert all(answer == answers[0] for answer in answers)
        assert len(answers[0].entries) == count


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_comes_at_once_a_card_is_charged_once_or_not_at_all(start: Start, seed: int) -> None:
    """Steps of a few keys in any order at two instances end in a net charge of nothing or the amount; none fails."""
    draw = random.Random(seed)
    tills = [await start(), await start()]
    keys = [f"o{i}" for i in range(6)]
    refunded = set()

    async def step(till: Till, name: str, key: str) -> None:
        try:
            await getattr(till, name)(key)
        except grpc.aio.AioRpcError as error:
            if info_of(error).reason not in ("PAYMENT_VOIDED", "NOT_FOUND"):
                raise
        if name == "refund":
            refunded.add(key)
        if key in refunded:
            assert net(await till.get(key)) == 0

    calls = [(draw.choice(tills), name, key) for key in keys for name in ["authorize", "capture"] * 4]
    calls += [(draw.choice(tills), "refund", key) for key in keys[:4] for _ in range(draw.randrange(1, 3))]
    draw.shuffle(calls)
    await asyncio.gather(*(step(*call) for call in calls))
    for payment in (await tills[0].list()).payments:
        states = [entry.state for entry in payment.entries]
        assert len(states) == len(set(states))
        assert net(payment) == (1250 if payment.state == CAPTURED else 0)
        assert payment.key not in refunded or payment.state in (REFUNDED, VOIDED)


async def test_a_refused_card_is_in_the_ledger(till: Till) -> None:
    """The refusal is recorded with its reason, told again each time, and left alone by a refund."""
    for _ in range(2):
        code, reason, metadata = await _reason(till.authorize("o1", method="pm_card_chargeDeclinedLostCard"))
        assert (code, reason, metadata["decline_code"]) == (Code.FAILED_PRECONDITION, "PAYMENT_REFUSED", "lost_card")
    payment = await till.refund("o1")
    assert (payment.state, payment.decline_code, movements(payment)) == (REFUSED, "lost_card", [(REFUSED, 0)])


@pytest.mark.parametrize(
    ("hundredths", "decline_code"),
    [(49, "amount_too_small"), (50, ""), (99_999_999, ""), (100_000_000, "amount_too_large")],
)
async def test_an_amount_beyond_the_bounds_is_refused(till: Till, hundredths: int, decline_code: str) -> None:
    """What is within them is charged to the cent."""
    amount = Money("USD", hundredths)
    if decline_code:
        _, reason, metadata = await _reason(till.authorize("o1", amount))
        assert (reason, metadata["decline_code"]) == ("PAYMENT_REFUSED", decline_code)
    else:
        await till.authorize("o1", amount)
        assert net(await till.capture("o1")) == hundredths


async def test_a_faulty_request_is_an_invalid_argument_and_leaves_nothing(till: Till) -> None:
    """No amount, no token, other terms than before: the field is named, and the ledger has no entry of it."""
    for amount, method, field in (
        (Money("EUR", 0), "pm_card_visa", "amount"),
        (Money("EUR", -100), "pm_card_visa", "amount"),
        (AMOUNT, "4242424242424242", "payment_method"),
    ):
        failed = await failure(till.authorize("o1", amount, method))
        assert (failed.code, failed.fields) == (Code.INVALID_ARGUMENT, [field])
    assert (await failure(till.get("o1"))).resources == [("payment", "o1")]
    await till.authorize("o1")
    failed = await failure(till.authorize("o1", Money("EUR", 1251), "pm_card_amex"))
    assert (failed.code, failed.fields) == (Code.INVALID_ARGUMENT, ["amount", "payment_method"])
    assert movements(await till.get("o1")) == [(AUTHORIZED, 0)]


async def test_a_refund_that_comes_first_keeps_the_charge_out(till: Till) -> None:
    """The tombstone is the only entry of the key, has no amount, and stays."""
    assert (await till.refund("o1")).state == VOIDED
    for late in (till.authorize("o1"), till.capture("o1")):
        assert (await _reason(late))[:2] == (Code.FAILED_PRECONDITION, "PAYMENT_VOIDED")
    payment = await till.refund("o1")
    assert (movements(payment), payment.HasField("amount"), payment.HasField("net_charge")) == (
        [(VOIDED, 0)],
        False,
        False,
    )


async def test_nothing_is_captured_that_was_never_authorized(till: Till) -> None:
    """It is not found, before and after."""
    for call in (till.capture("o1"), till.get("o1")):
        assert (await failure(call)).code is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("state", "hundredths", "constraint"),
    [("CAPTURED", 1250, "uq_payment_ledger_key_state"), ("VOIDED", 1250, "ck_payment_ledger_direction")],
)
async def test_the_ledger_itself_refuses_a_second_capture(
    start: Start, database_url: str, state: str, hundredths: int, constraint: str
) -> None:
    """The table has a constraint against taking money twice, and one against moving it by any other entry."""
    till = await start()
    await till.authorize("o1")
    await till.capture("o1")
    entry = ledger.insert().values(key="o1", state=state, hundredths=hundredths, time=utc_now())
    async with Database(database_url, service=NAME) as other:
        with pytest.raises(sa.exc.IntegrityError) as caught:
            async with other.transaction() as connection:
                await connection.execute(entry)
    assert violated_constraint(caught.value) == constraint
    assert net(await till.get("o1")) == 1250


async def test_pages_have_all_payments_by_key(till: Till) -> None:
    """Each payment is on one page, with its entries; a token of another list is refused."""
    keys = [f"o{i}" for i in range(7)]
    for key in keys:
        await till.authorize(key)
    await till.capture("o3")
    pages = [await till.list(3)]
    while token := pages[-1].next_page_token:
        pages.append(await till.list(3, token))
    found = [payment for page in pages for payment in page.payments]
    assert [payment.key for payment in found] == keys
    assert [len(payment.entries) for payment in found] == [1, 1, 1, 2, 1, 1, 1]
    assert (await failure(till.list(3, "nonsense"))).fields == ["page_token"]
