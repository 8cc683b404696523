"""Cards and amounts by the rules of Stripe's test mode."""

from __future__ import annotations

import pytest

from shop_services.payment.cards import DECLINED, GOOD, LEAST, MOST, decline_code
from shop_services.runtime.money import Money


@pytest.mark.parametrize("method", sorted(GOOD))
def test_a_good_card_pays_what_is_between_the_bounds(method: str) -> None:
    """From 0.50 to 999,999.99 it pays; beyond them it is refused with the reason."""
    codes = [decline_code(Money("EUR", hundredths), method) for hundredths in (LEAST - 1, LEAST, MOST, MOST + 1)]
    assert codes == ["amount_too_small", "", "", "amount_too_large"]


@pytest.mark.parametrize(("method", "code"), DECLINED.items())
def test_a_bad_card_is_refused_for_its_own_reason(method: str, code: str) -> None:
    """Whatever the amount, and in both of Stripe's spellings."""
    other = method.replace("pm_card_chargeDeclined", "pm_card_visa_chargeDeclined")
    for hundredths in (1, 1000):
        assert decline_code(Money("EUR", hundredths), method) == decline_code(Money("EUR", hundredths), other) == code


@pytest.mark.parametrize("method", ["pm_card_visas", "pm_card_visa_chargeDeclinedOtherwise", "pm_", ""])
def test_a_card_that_is_unknown_is_refused(method: str) -> None:
    """It never pays, so that an order with it fails and does not wait for ever."""
    assert decline_code(Money("EUR", 1000), method) == "no_such_payment_method"
