"""What proves that an order went right: its history, the stock, the ledger of the payment provider, the e-mail."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import TypeVar

import grpc
from google.type.money_pb2 import Money

from shop.payment.v1 import payment_pb2
from shop.payment.v1.payment_pb2_grpc import PaymentServiceStub
from shop_services.demo.stage import Stage
from shop_services.demo.story import Failed, check, stopwatch
from shop_services.notification.mailbox import listed, read
from shop_services.runtime import money

_SECONDS = 10.0
_INTERVAL = 0.02
_NEWEST = 50

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stock:
    """How many of a product can be sold, are set aside, and were sold."""

    available: int
    reserved: int
    committed: int

    def __str__(self) -> str:
        return f"{self.available} available, {self.reserved} reserved, {self.committed} committed"


async def stock(stage: Stage) -> Stock:
    """The stock of Ada's product."""
    reply = await stage.front.request("GET", f"/v1/products/{stage.product['id']}/stock", token=stage.operator)
    counts = reply.body["stock"]
    return Stock(*(int(counts.get(name, 0)) for name in ("available", "reserved", "committed")))


async def stock_becomes(stage: Stage, expected: Stock) -> None:
    """Tell when the stock is as expected. What a compensation gives back comes after the order's end."""
    with stopwatch() as elapsed:
        found = await eventually(lambda: stock(stage), lambda found: found == expected, f"the stock is not {expected}")
        stage.story.did(f"GET /v1/products/{stage.product['id']}/stock", str(found), elapsed())


async def charged(stage: Stage, order: str, net: str) -> None:
    """Tell what the ledger has of an order, when that is `net` in all: "12.50 EUR", or "" for nothing."""
    with stopwatch() as elapsed:
        found = await eventually(
            lambda: _payment(stage, order), lambda found: _settled(found, net), f"the net charge is not {net or 'zero'}"
        )
        captures = [entry for entry in found.entries if entry.state == payment_pb2.PAYMENT_STATE_CAPTURED]
        check(len(captures) == (1 if net else 0), f"the card was charged {len(captures)} times")
        stage.story.did("PaymentService.GetPayment", _told(found), elapsed())


async def mailed(stage: Stage, order: str, *, lines: int = 0) -> None:
    """Tell of the e-mail about an order when it has come, with its first lines; there must be one."""
    if (mailbox := stage.mailbox) is None:
        stage.story.note("the e-mail goes where SHOP_SMTP_URL says")
        return
    with stopwatch() as elapsed:
        mails = await eventually(lambda: _mails(mailbox, order), bool, "no e-mail came")
        check(len(mails) == 1, f"{len(mails)} e-mails came about one order")
        mail = mails[0]
        stage.story.did(f"e-mail to {mail['Delivered-To']}", str(mail["Subject"]), elapsed())
    body = mail.get_body(("plain",))
    for line in [line for line in (body.get_content().splitlines() if body else []) if line.strip()][:lines]:
        stage.story.note(f"  | {line}")


async def eventually(look: Callable[[], Awaitable[T]], holds: Callable[[T], bool], otherwise: str) -> T:
    """What `look` finds, as soon as it `holds`; raises `Failed` if that is not so within 10 s."""
    try:
        async with asyncio.timeout(_SECONDS):
            while not holds(found := await look()):  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(_INTERVAL)
            return found
    except TimeoutError:
        raise Failed(f"{otherwise} within {_SECONDS:.0f} s") from None


async def _payment(stage: Stage, order: str) -> payment_pb2.Payment:
    """What the ledger has of an order: a payment without entries if it never heard of it."""
    async with stage.as_operator("payment") as channel:
        try:
            request = payment_pb2.GetPaymentRequest(key=order)
            response: payment_pb2.GetPaymentResponse = await PaymentServiceStub(channel).GetPayment(request, timeout=5)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return payment_pb2.Payment()
            raise
        return response.payment


def _settled(payment: payment_pb2.Payment, net: str) -> bool:
    """Whether that is the last word: nothing is set aside any more."""
    if not payment.entries or payment.state == payment_pb2.PAYMENT_STATE_AUTHORIZED:
        return False
    return (_amount(payment.net_charge) if payment.net_charge.units or payment.net_charge.nanos else "") == net


def _told(payment: payment_pb2.Payment) -> str:
    states = [payment_pb2.PaymentState.Name(entry.state).removeprefix("PAYMENT_STATE_") for entry in payment.entries]
    code = f" ({payment.decline_code})" if payment.decline_code else ""
    net = _amount(payment.net_charge) if payment.HasField("net_charge") else "nothing"
    return f"{' → '.join(states)}{code}, net charge {net}"


def _amount(amount: Money) -> str:
    return str(money.from_proto(amount, "amount"))


async def _mails(mailbox: Path, order: str) -> list[EmailMessage]:
    mails = await asyncio.to_thread(lambda: [read(path) for path in listed(mailbox)[:_NEWEST]])
    return [mail for mail in mails if order in str(mail["Message-ID"])]
