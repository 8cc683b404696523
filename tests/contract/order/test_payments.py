"""Payments are taken and given back alike in memory and by RPC, where a real provider is on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import pytest

from grpc_registry import connect
from shop.payment.v1 import payment_pb2 as pb
from shop.payment.v1.payment_pb2_grpc import (
    PaymentServiceServicer,
    PaymentServiceStub,
    PaymentSimulatorServiceStub,
    add_PaymentServiceServicer_to_server,
)
from shop_services.order import payments
from shop_services.order.payments import PaymentProvider, PaymentRefused, PaymentService, PaymentVoided
from shop_services.payment.wiring import wire
from shop_services.runtime import money
from shop_services.runtime.app import App
from shop_services.runtime.errors import InvalidArgument, NotFound, Unavailable
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.interceptor import Context
from shop_services.runtime.money import Money
from shop_services.runtime.operator import operator_channel
from shop_services.runtime.outgoing import OutgoingChannel, service_channel
from shop_services.runtime.settings import Settings
from shop_services.runtime.testing import running
from tests.integration.order.shop import served
from tests.unit.services.order.fake_payments import FakePayments

AMOUNT = Money("EUR", 1250)
VISA = "pm_card_visa"
BROKE = "pm_card_chargeDeclinedInsufficientFunds"


@dataclass
class Till:
    """A provider; `net` is what it took for a key, in hundredths; `silence` switches its answers off and on.

    `noted` is how often it has noted something of a key, which it does when its work for a call is done.
    """

    provider: PaymentProvider
    net: Callable[[str], Awaitable[int]]
    noted: Callable[[str], Awaitable[int]]
    silence: Callable[[bool], Awaitable[None]]
    go_away: Callable[[], Awaitable[None]]


@asynccontextmanager
async def in_memory(_data: Path) -> AsyncIterator[Till]:
    fake = FakePayments()

    async def net(key: str) -> int:
        return fake.net(key)

    async def noted(key: str) -> int:
        return sum(called == key for _, called in fake.calls)

    async def silence(on: bool) -> None:
        fake.silent = 1000 if on else 0

    async def go_away() -> None:
        fake.away = True

    yield Till(fake, net, noted, silence, go_away)


@asynccontextmanager
async def by_rpc(data: Path) -> AsyncIterator[Till]:
    async with connect("memory://") as registry, AsyncExitStack() as clients, AsyncExitStack() as servers:
        settings = Settings(data=data)
        app = await servers.enter_async_context(wire(settings, registry))
        await servers.enter_async_context(served(app, registry))
        channel = await clients.enter_async_context(
            service_channel("payment", registry, settings, Authority.open(settings, "order"))
        )
        tests = await clients.enter_async_context(operator_channel("payment", registry, settings))

        async def known(key: str) -> list[pb.Payment]:
            listed = await PaymentServiceStub(tests).ListPayments(pb.ListPaymentsRequest())
            return [payment for payment in listed.payments if payment.key == key]

        async def noted(key: str) -> int:
            return sum(len(payment.entries) for payment in await known(key))

        async def net(key: str) -> int:
            charges = [payment.net_charge for payment in await known(key) if payment.HasField("net_charge")]
            return sum(money.from_proto(charge, "net_charge").hundredths for charge in charges)

        async def silence(on: bool) -> None:
            faults = pb.Faults(silent_percent=100 if on else 0)
            await PaymentSimulatorServiceStub(tests).SetFaults(pb.SetFaultsRequest(faults=faults))

        yield Till(PaymentService(channel), net, noted, silence, servers.aclose)


@pytest.fixture(params=[in_memory, by_rpc], ids=["memory", "rpc"])
async def till(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Till]:
    async with request.param(tmp_path) as made:
        yield made


async def test_a_card_is_charged_when_it_is_captured(till: Till) -> None:
    """Authorizing takes nothing yet, capturing takes the amount, refunding gives it back."""
    await till.provider.authorize("o1", AMOUNT, VISA)
    assert await till.net("o1") == 0
    await till.provider.capture("o1")
    assert await till.net("o1") == 1250
    await till.provider.refund("o1")
    assert await till.net("o1") == 0


async def test_every_step_can_be_repeated(till: Till) -> None:
    """Whatever is repeated, one after the other or at once, is done once."""
    for _ in range(3):
        await till.provider.authorize("o1", AMOUNT, VISA)
    await asyncio.gather(*(till.provider.capture("o1") for _ in range(5)))
    await till.provider.authorize("o1", AMOUNT, VISA)
    assert await till.net("o1") == 1250
    await asyncio.gather(*(till.provider.refund("o1") for _ in range(5)))
    await till.provider.refund("o1")
    assert await till.net("o1") == 0


async def test_a_refused_card_stays_refused(till: Till) -> None:
    """Each call tells the same decline code, and a refund of nothing is nothing to complain about."""
    for _ in range(2):
        with pytest.raises(PaymentRefused, match=r"^payment refused: insufficient_funds$") as caught:
            await till.provider.authorize("o1", AMOUNT, BROKE)
        assert caught.value.decline_code == "insufficient_funds"
        with pytest.raises(PaymentRefused, match="insufficient_funds"):
            await till.provider.capture("o1")
        await till.provider.refund("o1")
    assert await till.net("o1") == 0


async def test_what_was_refunded_is_never_charged_again(till: Till) -> None:
    """After a refund of what was captured or authorized, authorizing and capturing say that it is void."""
    await till.provider.authorize("captured", AMOUNT, VISA)
    await till.provider.capture("captured")
    await till.provider.authorize("authorized", AMOUNT, VISA)
    for key in ("captured", "authorized"):
        await till.provider.refund(key)
        with pytest.raises(PaymentVoided):
            await till.provider.authorize(key, AMOUNT, VISA)
        with pytest.raises(PaymentVoided):
            await till.provider.capture(key)
        assert await till.net(key) == 0


async def test_a_refund_that_comes_first_keeps_a_late_charge_out(till: Till) -> None:
    """It leaves a tombstone under the key, also for a card that would have been refused."""
    await till.provider.refund("o1")
    for method in (VISA, BROKE):
        with pytest.raises(PaymentVoided):
            await till.provider.authorize("o1", AMOUNT, method)
    with pytest.raises(PaymentVoided):
        await till.provider.capture("o1")
    await till.provider.refund("o1")
    assert await till.net("o1") == 0


async def test_a_key_belongs_to_one_amount_and_one_card(till: Till) -> None:
    """Anything else under the same key is the caller's fault, and charges nothing more."""
    await till.provider.authorize("o1", AMOUNT, VISA)
    await till.provider.capture("o1")
    for amount, method in ((Money("EUR", 1251), VISA), (Money("USD", 1250), VISA), (AMOUNT, "pm_card_amex")):
        with pytest.raises(InvalidArgument):
            await till.provider.authorize("o1", amount, method)
    assert await till.net("o1") == 1250


async def test_nothing_is_captured_that_was_never_authorized(till: Till) -> None:
    """It is not found, and leaves no trace: it can be authorized later."""
    with pytest.raises(NotFound):
        await till.provider.capture("o1")
    await till.provider.authorize("o1", AMOUNT, VISA)
    await till.provider.capture("o1")
    assert await till.net("o1") == 1250


async def test_a_lost_answer_is_unavailable_and_repeating_the_call_is_harmless(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work was done, which nobody was told; done again it changes nothing, also if it is a refusal."""
    steps: list[tuple[Callable[[], Awaitable[None]], int]] = [
        (partial(till.provider.authorize, "o1", AMOUNT, VISA), 0),
        (partial(till.provider.capture, "o1"), 1250),
        (partial(till.provider.refund, "o1"), 0),
    ]

    async def unanswered(step: Callable[[], Awaitable[None]], key: str) -> None:
        before = await till.noted(key)
        await till.silence(True)
        for timeout in (0.3, 1.0, 3.5):  # in a short time it may not even arrive, on a machine that stands still
            with monkeypatch.context() as patch:
                patch.setattr(payments, "TIMEOUT", timeout)
                with pytest.raises(Unavailable, match="payment service cannot be asked"):
                    await step()
            if await till.noted(key) > before:
                break
        else:
            pytest.fail("the work was not done")
        await till.silence(False)

    for step, net in steps:
        await unanswered(step, "o1")
        assert await till.net("o1") == net
        await step()
        assert await till.net("o1") == net
    await unanswered(partial(till.provider.authorize, "o2", AMOUNT, BROKE), "o2")
    with pytest.raises(PaymentRefused):
        await till.provider.authorize("o2", AMOUNT, BROKE)


async def test_who_cannot_be_asked_is_unavailable(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is neither a refusal nor a success, whichever step it is."""
    monkeypatch.setattr(payments, "TIMEOUT", 1.0)
    await till.go_away()
    for step in (till.provider.authorize("o1", AMOUNT, VISA), till.provider.capture("o1"), till.provider.refund("o1")):
        with pytest.raises(Unavailable, match="payment service cannot be asked"):
            await step


@pytest.mark.parametrize("code", [grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INTERNAL])
async def test_an_error_of_an_unknown_kind_is_no_refusal(code: grpc.StatusCode) -> None:
    """Without a reason that is known, whatever the code and the text say, it is not known what was done."""

    class Odd(PaymentServiceServicer):
        async def CapturePayment(
            self, request: pb.CapturePaymentRequest, context: Context
        ) -> pb.CapturePaymentResponse:
            await context.abort(code, "PAYMENT_REFUSED: payment refused, insufficient_funds")

    add_to = partial(add_PaymentServiceServicer_to_server, Odd())  # type: ignore[abstract]  # the others are not called
    async with running(App("payment", {"shop.payment.v1.PaymentService": add_to})) as channel:
        with pytest.raises(Unavailable, match=code.name):
            await PaymentService(OutgoingChannel(channel)).capture("o1")
