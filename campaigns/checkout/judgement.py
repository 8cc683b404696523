"""What must hold of the shop's tables, once every order has ended. Pure: facts in, breaches out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from campaigns.checkout.facts import Asked, Found, Order, Reservation, Stock
from campaigns.checkout.plan import REFUSED

NEXT = {
    "PENDING": {"PROCESSING", "FAILED", "CANCELLED"},
    "PROCESSING": {"PAID", "FAILED", "CANCELLED"},
    "PAID": {"FULFILLED", "FAILED", "CANCELLED"},
}
"""What may follow what. It is written down again here, since what is judged must not write the law."""
ENDED = frozenset({"FULFILLED", "FAILED", "CANCELLED"})


@dataclass(frozen=True, slots=True)
class Breach:
    """A promise that was broken, by which order or product, and how."""

    promise: str
    who: str
    how: str


TERMINAL = "orders that have not ended"
OWING = "orders that owe a compensation, and messages left in an outbox"
PATH = "orders whose history is no path of the saga"
ONCE = "request ids without exactly one order"
CHARGED = "FULFILLED orders that were not charged exactly once"
SOLD = "FULFILLED orders whose stock was not committed exactly once"
NET_ZERO = "FAILED or CANCELLED orders with a charge that was not undone"
RELEASED = "FAILED or CANCELLED orders that hold stock, or had it sold"
BALANCE = "products whose stock and sales do not add up"
MAILED = "orders without exactly one e-mail intent, sent and arrived"
CALLED_OFF = "orders that are CANCELLED against the answer of CancelOrder"
REFUSALS = "FULFILLED orders of a card that is refused"
PROMISES = (
    TERMINAL,
    OWING,
    PATH,
    ONCE,
    CHARGED,
    SOLD,
    NET_ZERO,
    RELEASED,
    BALANCE,
    MAILED,
    CALLED_OFF,
    REFUSALS,
)


def judge(asked: Asked, found: Found) -> list[Breach]:
    """Every breach of every promise."""
    breaches: list[Breach] = []
    for order in found.orders:
        breaches += _of_order(order, found)
        accepted = asked.cancelled.get(order.id, False)
        if accepted != (order.status == "CANCELLED"):
            answer = "accepted" if accepted else "not accepted"
            breaches.append(Breach(CALLED_OFF, order.id, f"is {order.status}, and the cancellation was {answer}"))
    breaches += _requests(asked, found)
    breaches += _stock(asked, found)
    breaches += [Breach(OWING, name, f"holds {rows} messages") for name, rows in found.outboxes.items() if rows]
    nobodys = (found.payments.keys() | found.reservations.keys() | found.mails.keys()) - {o.id for o in found.orders}
    breaches += [Breach(ONCE, id, "was paid, reserved for or told of, and is no order") for id in sorted(nobodys)]
    return breaches


def _of_order(order: Order, found: Found) -> Iterator[Breach]:
    id, payment, reservation = order.id, found.payments.get(order.id), found.reservations.get(order.id)
    if order.status not in ENDED:
        yield Breach(TERMINAL, id, f"is {order.status}")
    if order.owes:
        yield Breach(OWING, id, f"is {order.status} and owes a compensation")
    if wrong := _no_path(order):
        yield Breach(PATH, id, wrong)
    if order.status == "FULFILLED":
        expected = [order.hundredths] if order.hundredths else []
        moved = [amount for amount in payment.moves if amount] if payment else []
        if moved != expected or (payment is not None and payment.state != "CAPTURED"):
            yield Breach(CHARGED, id, f"costs {order.hundredths}: {payment}")
        if reservation != Reservation("COMMITTED", order.items):
            yield Breach(SOLD, id, f"wants {dict(order.items)}: {reservation}")
        if order.card in REFUSED and order.hundredths:
            yield Breach(REFUSALS, id, f"was paid by {order.card}")
    elif order.status in ENDED:
        if payment and (sum(payment.moves) or payment.state in ("AUTHORIZED", "CAPTURED")):
            yield Breach(NET_ZERO, id, f"is {order.status}: {payment}")
        if reservation and reservation.state != "RELEASED":
            yield Breach(RELEASED, id, f"is {order.status}: {reservation}")
    mails, arrived = found.mails.get(id, ()), found.arrived.get(id, 0)
    if order.status in ENDED and (list(mails) != [True] or not arrived):
        yield Breach(MAILED, id, f"is {order.status}: {len(mails)} intents, {sum(mails)} sent, {arrived} arrived")


def _no_path(order: Order) -> str:
    statuses = [step.status for step in order.history]
    if [step.version for step in order.history] != list(range(1, len(statuses) + 1)):
        return f"has versions {[step.version for step in order.history]}"
    if statuses[:1] != ["PENDING"]:
        return f"begins with {statuses[:1]}"
    for before, after in pairwise(statuses):
        if after not in NEXT.get(before, ()):
            return f"went from {before} to {after}"
    if (order.status, order.version) != (statuses[-1], len(statuses)):
        return f"is {order.status} at version {order.version}, and its history ends with {statuses[-1]}"
    return ""


def _requests(asked: Asked, found: Found) -> Iterator[Breach]:
    made: dict[str, set[str]] = {}
    for order in found.orders:
        made.setdefault(order.request_id, set()).add(order.id)
    for request_id in sorted(made.keys() | asked.told.keys()):
        orders, told = made.get(request_id, set()), asked.told.get(request_id, set())
        if len(orders) != 1 or not told <= orders:
            yield Breach(ONCE, request_id, f"made {sorted(orders)}, and was told {sorted(told)}")


def _stock(asked: Asked, found: Found) -> Iterator[Breach]:
    sold = Counter[str]()
    for order in found.orders:
        if order.status == "FULFILLED":
            sold.update(order.items)
    for product, initial in asked.initial.items():
        counts = found.stock.get(product)
        if counts != Stock(initial - sold[product], 0, sold[product]):
            yield Breach(BALANCE, product, f"had {initial}, {sold[product]} were sold: {counts}")
