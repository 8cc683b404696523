"""What the tests of the payment provider have in common: an instance, and short words for calls of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import grpc
from google.protobuf.duration_pb2 import Duration

from shop.payment.v1 import payment_pb2 as pb
from shop.payment.v1.payment_pb2_grpc import PaymentServiceStub, PaymentSimulatorServiceStub
from shop_services.runtime import money
from shop_services.runtime.money import Money

TIMEOUT = 20.0
AMOUNT = Money("EUR", 1250)
VISA = "pm_card_visa"

AUTHORIZED = pb.PAYMENT_STATE_AUTHORIZED
CAPTURED = pb.PAYMENT_STATE_CAPTURED
REFUNDED = pb.PAYMENT_STATE_REFUNDED
VOIDED = pb.PAYMENT_STATE_VOIDED
REFUSED = pb.PAYMENT_STATE_REFUSED


class Till:
    """An instance of the provider, and its stubs."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.payments = PaymentServiceStub(channel)
        self.simulator = PaymentSimulatorServiceStub(channel)

    async def authorize(self, key: str, amount: Money = AMOUNT, method: str = VISA) -> pb.Payment:
        """Set an amount aside."""
        request = pb.AuthorizePaymentRequest(key=key, amount=money.to_proto(amount), payment_method=method)
        return (await self.payments.AuthorizePayment(request, timeout=TIMEOUT)).payment

    async def capture(self, key: str, timeout: float = TIMEOUT) -> pb.Payment:
        """Take it."""
        return (await self.payments.CapturePayment(pb.CapturePaymentRequest(key=key), timeout=timeout)).payment

    async def refund(self, key: str) -> pb.Payment:
        """Give it back."""
        return (await self.payments.RefundPayment(pb.RefundPaymentRequest(key=key), timeout=TIMEOUT)).payment

    async def get(self, key: str) -> pb.Payment:
        """The payment as it is now."""
        return (await self.payments.GetPayment(pb.GetPaymentRequest(key=key), timeout=TIMEOUT)).payment

    async def list(self, size: int = 0, token: str = "") -> pb.ListPaymentsResponse:
        """A page of payments."""
        return await self.payments.ListPayments(pb.ListPaymentsRequest(page_size=size, page_token=token))

    async def misbehave(self, refuse: int = 0, delay: Duration | None = None, silent: int = 0) -> pb.Faults:
        """Set the faults."""
        faults = pb.Faults(refuse_percent=refuse, delay=delay, silent_percent=silent)
        return (await self.simulator.SetFaults(pb.SetFaultsRequest(faults=faults), timeout=TIMEOUT)).faults

    async def faults(self) -> pb.Faults:
        """The faults of now."""
        return (await self.simulator.GetFaults(pb.GetFaultsRequest(), timeout=TIMEOUT)).faults


Start = Callable[[], Awaitable[Till]]


def movements(payment: pb.Payment) -> list[tuple[int, int]]:
    """The ledger's entries: the state, and the hundredths that moved; zero for one without an amount."""
    return [(entry.state, _hundredths(entry, "amount")) for entry in payment.entries]


def net(payment: pb.Payment) -> int:
    """The net charge in hundredths."""
    return _hundredths(payment, "net_charge")


def _hundredths(message: pb.Payment | pb.LedgerEntry, field: str) -> int:
    return money.from_proto(getattr(message, field), field).hundredths if message.HasField(field) else 0  # type: ignore[arg-type]
