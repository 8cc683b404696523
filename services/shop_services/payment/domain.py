"""What may become of a payment. Pure: no protobuf, no database, no clock.

A payment is nothing but the entries that the ledger has for its key: its state is that of the last, its net charge the
sum of all. Every change of state is one entry, and no state comes twice, so money is taken once and given back once.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from shop_services.payment.errors import PaymentRefused, PaymentVoided
from shop_services.runtime.errors import InvalidArgument, NotFound
from shop_services.runtime.money import Money

KIND = "payment"
"""What errors call a payment."""


class State(enum.StrEnum):
    """How far a payment has come. UNSEEN: nobody ever asked for it, and nothing is stored."""

    UNSEEN = "UNSEEN"
    AUTHORIZED = "AUTHORIZED"
    CAPTURED = "CAPTURED"
    REFUNDED = "REFUNDED"
    VOIDED = "VOIDED"
    REFUSED = "REFUSED"


class Action(enum.Enum):
    """What can be asked for a payment. DECLINE is an authorization to which the card says no."""

    AUTHORIZE = "authorize"
    DECLINE = "decline"
    CAPTURE = "capture"
    REFUND = "refund"


# Every step of a payment goes through this table. REFUND of an unseen payment leaves a tombstone: an authorization that
# was on its way when the order was given up finds it, and charges nothing.
STEPS: Mapping[State, Mapping[Action, State]] = {
    State.UNSEEN: {
        Action.AUTHORIZE: State.AUTHORIZED,
        Action.DECLINE: State.REFUSED,
        Action.CAPTURE: State.UNSEEN,
        Action.REFUND: State.VOIDED,
    },
    State.AUTHORIZED: {
        Action.AUTHORIZE: State.AUTHORIZED,
        Action.DECLINE: State.AUTHORIZED,
        Action.CAPTURE: State.CAPTURED,
        Action.REFUND: State.VOIDED,
    },
    State.CAPTURED: {
        Action.AUTHORIZE: State.CAPTURED,
        Action.DECLINE: State.CAPTURED,
        Action.CAPTURE: State.CAPTURED,
        Action.REFUND: State.REFUNDED,
    },
    State.REFUNDED: dict.fromkeys(Action, State.REFUNDED),
    State.VOIDED: dict.fromkeys(Action, State.VOIDED),
    State.REFUSED: dict.fromkeys(Action, State.REFUSED),
}

_DIRECTION = {State.CAPTURED: +1, State.REFUNDED: -1}


@dataclass(frozen=True, slots=True)
class Terms:
    """What an authorization asks for. `decline_code` says why the card refuses; it is empty if the card is good."""

    amount: Money
    method: str
    decline_code: str = field(default="", compare=False)  # the card's part, which a repetition need not get again


@dataclass(frozen=True, slots=True)
class Entry:
    """One change of a payment: the state since then, and what moved, positive from the customer to the shop."""

    number: int
    state: State
    hundredths: int
    time: datetime


@dataclass(frozen=True, slots=True)
class Payment:
    """All that is known of one key. There are no terms if a refund came before anything else."""

    key: str
    terms: Terms | None = None
    entries: tuple[Entry, ...] = ()

    @property
    def state(self) -> State:
        """How far it has come."""
        return self.entries[-1].state if self.entries else State.UNSEEN

    @property
    def net(self) -> Money | None:
        """What was taken minus what was given back; None if no amount was ever asked for."""
        if self.terms is None:
            return None
        return Money(self.terms.amount.currency, sum(entry.hundredths for entry in self.entries))

    def after(self, action: Action, terms: Terms | None = None) -> tuple[State, Terms | None]:
        """The state and terms that `action` leads to. `terms` are those that an authorization asks for.

        Raises:
            InvalidArgument: other terms were asked for before; the fields that differ are named.
        """
        if terms is not None and self.terms is not None and terms != self.terms:
            fields = [
                ("amount", terms.amount == self.terms.amount),
                ("payment_method", terms.method == self.terms.method),
            ]
            why = f"is not what payment {self.key!r} was first asked for with"
            raise InvalidArgument((name, why) for name, same in fields if not same)
        state = STEPS[self.state][action]
        return state, terms if self.state is State.UNSEEN else self.terms

    def require(self) -> Payment:
        """The payment itself, if its card is charged or can be.

        Raises:
            NotFound: nobody ever asked for it.
            PaymentRefused: the card was refused.
            PaymentVoided: it was refunded, or kept out before it began.
        """
        match self.state:
            case State.UNSEEN:
                raise NotFound(KIND, self.key)
            case State.REFUSED:
                raise PaymentRefused(self.key, self.terms.decline_code if self.terms else "")
            case State.VOIDED | State.REFUNDED:
                raise PaymentVoided(self.key)
        return self


def moved(state: State, terms: Terms | None) -> int:
    """The hundredths that move when a payment comes into `state`."""
    return _DIRECTION.get(state, 0) * (terms.amount.hundredths if terms else 0)
