"""An order that has ended, and the e-mail about it. Pure: no clock, no database, no protobuf, no SMTP."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass, field
from datetime import datetime

from shop_services.runtime.money import Money

KIND = "mail"
"""What errors call an e-mail."""

# What would start a line of its own or turn the direction of the text around it. The joiners that some scripts and
# emoji are written with stay.
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")


class Outcome(enum.StrEnum):
    """How an order ended. The names are those of the API."""

    FULFILLED = "FULFILLED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class State(enum.StrEnum):
    """How far an e-mail has come."""

    PENDING = "PENDING"
    """It is to be sent. It may have been: whoever sends dies before they can tell."""
    SENT = "SENT"
    """A mail server has taken it."""
    SKIPPED = "SKIPPED"
    """It will not be sent; the mail's `reason` says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """A quantity of a product, and the price of all of them."""

    product_name: str
    quantity: int
    subtotal: Money


@dataclass(frozen=True, slots=True)
class Ending:
    """An order that has ended. `reason` says why it was not fulfilled."""

    order_id: str
    user_id: str
    outcome: Outcome
    reason: str
    lines: tuple[Line, ...]
    total: Money
    time: datetime
    """When it was ordered."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Who is written to. A name may be empty."""

    address: str = field(repr=False)
    name: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Mail:
    """The e-mail about one order. There is one for each, whatever happens, and it always has the same Message-ID."""

    order_id: str
    recipient: Recipient
    subject: str
    message_id: str
    state: State
    attempts: int
    """How often sending it was begun."""
    reason: str
    """Why it was skipped, or why the last attempt failed."""
    create_time: datetime
    sent_time: datetime | None = None


def message_id(order_id: str, sender: str) -> str:
    """The Message-ID of the e-mail about an order: always the same, so that one which arrives twice is recognised."""
    return f"<order-{order_id}@{sender.rpartition('@')[2]}>"


def one_line(text: str) -> str:
    """`text` for a header or a line: without control characters, and with single spaces."""
    return " ".join(_UNFIT.sub(" ", text).split())
