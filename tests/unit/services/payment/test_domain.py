"""The table of payments: every state meets every action here."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_services.payment.domain import STEPS, Action, Entry, Payment, State, Terms, moved
from shop_services.payment.errors import PaymentRefused, PaymentVoided
from shop_services.runtime.errors import DomainError, InvalidArgument, NotFound
from shop_services.runtime.money import Money

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_AMOUNT = Money("EUR", 1250)
_TERMS = Terms(_AMOUNT, "pm_card_visa")


def _step(payment: Payment, action: Action) -> Payment:
    terms = {Action.AUTHORIZE: _TERMS, Action.DECLINE: Terms(_AMOUNT, "pm_card_visa", "generic_decline")}.get(action)
    state, agreed = payment.after(action, terms)
    if state is payment.state:
        return payment
    entry = Entry(len(payment.entries) + 1, state, moved(state, agreed), _NOW)
    return Payment(payment.key, agreed, (*payment.entries, entry))


def _payment(*actions: Action) -> Payment:
    payment = Payment("o1")
    for action in actions:
        payment = _step(payment, action)
    return payment


_WAYS: dict[State, tuple[Action, ...]] = {
    State.UNSEEN: (),
    State.AUTHORIZED: (Action.AUTHORIZE,),
    State.CAPTURED: (Action.AUTHORIZE, Action.CAPTURE),
    State.REFUNDED: (Action.AUTHORIZE, Action.CAPTURE, Action.REFUND),
    State.VOIDED: (Action.AUTHORIZE, Action.REFUND),
    State.REFUSED: (Action.DECLINE,),
}


@pytest.mark.parametrize(
    ("state", "authorize", "decline", "capture", "refund"),
    [
        (State.UNSEEN, State.AUTHORIZED, State.REFUSED, State.UNSEEN, State.VOIDED),
        (State.AUTHORIZED, State.AUTHORIZED, State.AUTHORIZED, State.CAPTURED, State.VOIDED),
        (State.CAPTURED, State.CAPTURED, State.CAPTURED, State.CAPTURED, State.REFUNDED),
        (State.REFUNDED, State.REFUNDED, State.REFUNDED, State.REFUNDED, State.REFUNDED),
        (State.VOIDED, State.VOIDED, State.VOIDED, State.VOIDED, State.VOIDED),
        (State.REFUSED, State.REFUSED, State.REFUSED, State.REFUSED, State.REFUSED),
    ],
)
def test_every_action_on_every_state(
    state: State, authorize: State, decline: State, capture: State, refund: State
) -> None:
    """An action does what the comments of the API say, and what it need not do again it leaves alone."""
    payment = _payment(*_WAYS[state])
    assert payment.state is state
    assert [_step(payment, action).state for action in Action] == [authorize, decline, capture, refund]


def test_the_table_is_complete() -> None:
    """No action on any state is left to chance."""
    assert set(STEPS) == set(State)
    assert all(set(steps) == set(Action) for steps in STEPS.values())


@pytest.mark.parametrize(
    ("state", "error"),
    [
        (State.UNSEEN, NotFound),
        (State.AUTHORIZED, None),
        (State.CAPTURED, None),
        (State.REFUNDED, PaymentVoided),
        (State.VOIDED, PaymentVoided),
        (State.REFUSED, PaymentRefused),
    ],
)
def test_callers_are_told_if_nothing_is_charged(state: State, error: type[DomainError] | None) -> None:
    """Only what is authorized or captured is an answer; a refusal has its code and the reason for programs."""
    payment = _payment(*_WAYS[state])
    if error is None:
        assert payment.require() is payment
        return
    with pytest.raises(error, match="'o1'") as caught:
        payment.require()
    if error is PaymentRefused:
        assert (caught.value.reason, caught.value.metadata["decline_code"]) == ("PAYMENT_REFUSED", "generic_decline")
    if error is PaymentVoided:
        assert caught.value.reason == "PAYMENT_VOIDED"


@given(st.lists(st.sampled_from(Action), max_size=30))
def test_whatever_the_sequence_a_card_is_charged_once_or_not_at_all(actions: list[Action]) -> None:
    """The net charge is nothing or the amount, which is taken once at most; after a refund it is nothing for ever."""
    payment, refunded = Payment("o1"), False
    for action in actions:
        payment = _step(payment, action)
        refunded = refunded or action is Action.REFUND
        states = [entry.state for entry in payment.entries]
        assert len(states) == len(set(states))
        net = payment.net.hundredths if payment.net else 0
        assert net == (_AMOUNT.hundredths if payment.state is State.CAPTURED else 0)
        if refunded:
            assert net == 0


def test_a_refund_that_comes_first_keeps_the_authorization_out() -> None:
    """The tombstone has no amount, and an authorization that finds it gives it none."""
    late = _payment(Action.REFUND, Action.AUTHORIZE, Action.CAPTURE)
    assert (late.state, late.terms, late.net) == (State.VOIDED, None, None)


@pytest.mark.parametrize("state", [state for state in State if state is not State.UNSEEN])
def test_other_terms_are_an_invalid_argument(state: State) -> None:
    """Whatever became of the payment, another amount or card is refused, and the field that differs is named."""
    payment = _payment(*_WAYS[state])
    for other, fields in (
        (Terms(Money("EUR", 1251), "pm_card_visa"), ["amount"]),
        (Terms(Money("USD", 1250), "pm_card_visa"), ["amount"]),
        (Terms(_AMOUNT, "pm_card_amex"), ["payment_method"]),
        (Terms(Money("EUR", 1), "pm_card_amex"), ["amount", "payment_method"]),
    ):
        with pytest.raises(InvalidArgument) as caught:
            payment.after(Action.AUTHORIZE, other)
        assert [field for field, _ in caught.value.violations] == fields
