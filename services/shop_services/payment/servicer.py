"""shop.payment.v1.PaymentService: protobuf to the domain and back, nothing else."""

from __future__ import annotations

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from shop.payment.v1 import payment_pb2 as pb
from shop.payment.v1 import payment_pb2_grpc
from shop_services.payment.domain import Entry, Payment
from shop_services.payment.faults import Faults, FaultStore
from shop_services.payment.usecases import Payments
from shop_services.runtime import money
from shop_services.runtime.interceptor import Context
from shop_services.runtime.money import Money
from shop_services.runtime.paging import page_size
from shop_services.runtime.times import to_timestamp

# Methods are named as the RPCs that they serve.
# ruff: noqa: N802


class PaymentServicer(payment_pb2_grpc.PaymentServiceServicer):
    """Serves `Payments`."""

    def __init__(self, payments: Payments) -> None:
        self._payments = payments

    async def AuthorizePayment(
        self, request: pb.AuthorizePaymentRequest, context: Context
    ) -> pb.AuthorizePaymentResponse:
        amount = money.from_proto(request.amount, "amount")
        payment = await self._payments.authorize(request.key, amount, request.payment_method)
        return pb.AuthorizePaymentResponse(payment=to_proto(payment))

    async def CapturePayment(self, request: pb.CapturePaymentRequest, context: Context) -> pb.CapturePaymentResponse:
        return pb.CapturePaymentResponse(payment=to_proto(await self._payments.capture(request.key)))

    async def RefundPayment(self, request: pb.RefundPaymentRequest, context: Context) -> pb.RefundPaymentResponse:
        return pb.RefundPaymentResponse(payment=to_proto(await self._payments.refund(request.key)))

    async def GetPayment(self, request: pb.GetPaymentRequest, context: Context) -> pb.GetPaymentResponse:
        return pb.GetPaymentResponse(payment=to_proto(await self._payments.get(request.key)))

    async def ListPayments(self, request: pb.ListPaymentsRequest, context: Context) -> pb.ListPaymentsResponse:
        page = await self._payments.page(page_size(request.page_size), request.page_token, _weight)
        return pb.ListPaymentsResponse(payments=map(to_proto, page.items), next_page_token=page.next_token)


class SimulatorServicer(payment_pb2_grpc.PaymentSimulatorServiceServicer):
    """Serves the `FaultStore`."""

    def __init__(self, faults: FaultStore) -> None:
        self._faults = faults

    async def SetFaults(self, request: pb.SetFaultsRequest, context: Context) -> pb.SetFaultsResponse:
        asked = request.faults
        delay = timedelta(seconds=asked.delay.seconds, microseconds=asked.delay.nanos // 1000)
        faults = Faults(asked.refuse_percent, delay, asked.silent_percent, asked.crash_percent)
        await self._faults.replace(faults)
        return pb.SetFaultsResponse(faults=faults_to_proto(faults))

    async def GetFaults(self, request: pb.GetFaultsRequest, context: Context) -> pb.GetFaultsResponse:
        return pb.GetFaultsResponse(faults=faults_to_proto(await self._faults.current()))


def to_proto(payment: Payment) -> pb.Payment:
    """`payment` as the API shows it."""
    terms, net = payment.terms, payment.net
    return pb.Payment(
        key=payment.key,
        state=pb.PaymentState.Value(f"PAYMENT_STATE_{payment.state}"),
        amount=money.to_proto(terms.amount) if terms else None,
        payment_method=terms.method if terms else "",
        decline_code=terms.decline_code if terms else "",
        create_time=to_timestamp(payment.entries[0].time),
        entries=[_entry(entry, terms.amount.currency if terms else "") for entry in payment.entries],
        net_charge=money.to_proto(net) if net else None,
    )


def faults_to_proto(faults: Faults) -> pb.Faults:
    """`faults` as the API shows them."""
    delay = Duration()
    delay.FromTimedelta(faults.delay)
    return pb.Faults(
        refuse_percent=faults.refuse_percent,
        delay=delay,
        silent_percent=faults.silent_percent,
        crash_percent=faults.crash_percent,
    )


def _entry(entry: Entry, currency: str) -> pb.LedgerEntry:
    return pb.LedgerEntry(
        number=entry.number,
        state=pb.PaymentState.Value(f"PAYMENT_STATE_{entry.state}"),
        amount=money.to_proto(Money(currency, entry.hundredths)) if currency else None,
        time=to_timestamp(entry.time),
    )


def _weight(payment: Payment) -> int:
    return to_proto(payment).ByteSize() + 5
