"""What is known of a shop after a campaign: what its tables say, and what its clients were told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Step:
    """A row of an order's history."""

    version: int
    status: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Order:
    """An order as its tables have it; `owes` says that a compensation is still to be made."""

    id: str
    request_id: str
    status: str
    version: int
    owes: bool
    hundredths: int
    card: str
    items: Mapping[str, int]
    history: Sequence[Step]


@dataclass(frozen=True, slots=True)
class Reservation:
    """An order's stock."""

    state: str
    items: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Stock:
    """A product's counts."""

    available: int
    reserved: int
    committed: int


@dataclass(frozen=True, slots=True)
class Payment:
    """An order's payment: its state, and what moved, to the shop (positive) or back."""

    state: str
    moves: Sequence[int]


@dataclass(frozen=True, slots=True)
class Found:
    """All that the tables say. Reservations, payments and mails are by order id; of a mail, whether it was sent.

    `arrived`: how many e-mails about each order the mail server has. `outboxes`: how many messages each table holds.
    """

    orders: Sequence[Order]
    reservations: Mapping[str, Reservation]
    stock: Mapping[str, Stock]
    payments: Mapping[str, Payment]
    mails: Mapping[str, Sequence[bool]]
    arrived: Mapping[str, int]
    outboxes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for and answered: stock at first by product, the orders that each request id was told, and of
    each order that was called off whether that was accepted."""

    initial: Mapping[str, int]
    told: Mapping[str, set[str]]
    cancelled: Mapping[str, bool]
