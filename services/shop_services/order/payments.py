"""How an order's money is taken and given back: what a payment provider must do, and the one that ships, asked by RPC.

A payment is known by a key of ours, the order's id, and whatever is repeated with the same key is done once. So a
worker that does not know whether its call arrived makes it again, and two workers with the same message do no harm.
"""

from __future__ import annotations

from typing import Protocol

import grpc

from shop.payment.v1 import payment_pb2 as pb
from shop.payment.v1.payment_pb2_grpc import PaymentServiceStub
from shop_services.runtime import money
from shop_services.runtime.errors import DomainError, InvalidArgument, NotFound, Unavailable
from shop_services.runtime.money import Money
from shop_services.runtime.status import info_of

KIND = "payment"
"""What errors call a payment."""
TIMEOUT = 5.0
"""Seconds that a call may take, its retries included."""


class PaymentRefused(Exception):
    """The card was refused, for good: `decline_code` says why, in the words of Stripe ("insufficient_funds")."""

    def __init__(self, decline_code: str) -> None:
        super().__init__(f"payment refused: {decline_code}")
        self.decline_code = decline_code


class PaymentVoided(Exception):
    """The payment was refunded before: nothing is charged for this key, and nothing ever will be."""


class PaymentProvider(Protocol):
    """Whoever takes money from cards. Every method can be repeated, and be called at once from several processes.

    All raise `Unavailable` if it is not known what was done, perhaps all of it: call again with the same arguments.

    With Stripe, a key would be a PaymentIntent of manual capture: made with the key as idempotency key and in the
    metadata, then confirmed, captured, refunded or cancelled. A refund that finds no intent makes one of the least
    amount with the same idempotency key, and cancels it. The authorization that comes late is then told that the key is
    used, finds the cancelled intent, and says `PaymentVoided`. Stripe may forget an idempotency key after a day, so the
    intent is looked for by its metadata first.
    """

    async def authorize(self, key: str, amount: Money, method: str) -> None:
        """Set `amount`, more than nothing, aside on the card that the token `method` stands for.

        Raises:
            PaymentRefused: the card was refused, now or when this was called before.
            PaymentVoided: `refund` was called for this key, before or after it was authorized.
            InvalidArgument: the key belongs to another amount or method; its caller is at fault.
        """

    async def capture(self, key: str) -> None:
        """Take what was authorized, once.

        Raises:
            PaymentRefused: the card was refused.
            PaymentVoided: `refund` was called for this key.
            NotFound: nothing was ever asked for with this key.
        """

    async def refund(self, key: str) -> None:
        """Make the net charge of this key zero, for ever.

        What was captured is given back and what was authorized is let go. A key that nobody has used yet is kept as a
        tombstone: an authorization on its way is voided when it arrives. Nothing happens to a refused payment.
        """


class PaymentService:
    """`PaymentProvider` by RPC: the shop's service `payment`, over a `channel` to it."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = PaymentServiceStub(channel)

    async def authorize(self, key: str, amount: Money, method: str) -> None:
        request = pb.AuthorizePaymentRequest(key=key, amount=money.to_proto(amount), payment_method=method)
        try:
            await self._stub.AuthorizePayment(request, timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise _meant(error, key) from error

    async def capture(self, key: str) -> None:
        try:
            await self._stub.CapturePayment(pb.CapturePaymentRequest(key=key), timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise _meant(error, key) from error

    async def refund(self, key: str) -> None:
        try:
            await self._stub.RefundPayment(pb.RefundPaymentRequest(key=key), timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise _meant(error, key) from error


def _meant(error: grpc.aio.AioRpcError, key: str) -> PaymentRefused | PaymentVoided | DomainError:
    info = info_of(error)
    match info.reason:
        case "PAYMENT_REFUSED":
            return PaymentRefused(info.metadata["decline_code"])
        case "PAYMENT_VOIDED":
            return PaymentVoided(f"payment {key!r} was refunded")
        case "NOT_FOUND":
            return NotFound(KIND, key)
        case "INVALID_ARGUMENT":
            return InvalidArgument([("", error.details() or "the payment service takes no such request")])
    why = f"the payment service cannot be asked ({error.code().name}); what it did is not known"
    return Unavailable(why, metadata={"service": "payment"})
