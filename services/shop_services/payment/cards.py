"""Which cards pay, and which amounts: the rules of Stripe's test mode, https://docs.stripe.com/testing.

A card is a token, as it is with Stripe. Numbers of cards are never seen here.
"""

from __future__ import annotations

from collections.abc import Mapping

from shop_services.runtime.money import Money

SLOW = "pm_sim_slow"
"""A card of ours that pays: it takes two seconds to authorize."""
SILENT = "pm_sim_silent"
"""A card of ours that pays: the capture takes the money and does not answer. Repeated, it answers."""
CRASH = "pm_sim_crash"
"""A card of ours that pays: the capture takes the money and ends the provider's process. Repeated, it answers."""

GOOD = frozenset(
    {
        "pm_card_visa",
        "pm_card_visa_debit",
        "pm_card_mastercard",
        "pm_card_mastercard_debit",
        "pm_card_mastercard_prepaid",
        "pm_card_amex",
        "pm_card_discover",
        "pm_card_diners",
        "pm_card_jcb",
        "pm_card_unionpay",
        SLOW,
        SILENT,
        CRASH,
    }
)
"""The cards that pay."""

DECLINED: Mapping[str, str] = {
    "pm_card_chargeDeclined": "generic_decline",
    "pm_card_chargeDeclinedInsufficientFunds": "insufficient_funds",
    "pm_card_chargeDeclinedLostCard": "lost_card",
    "pm_card_chargeDeclinedStolenCard": "stolen_card",
    "pm_card_chargeDeclinedExpiredCard": "expired_card",
    "pm_card_chargeDeclinedIncorrectCvc": "incorrect_cvc",
    "pm_card_chargeDeclinedProcessingError": "processing_error",
    "pm_card_chargeDeclinedVelocityLimitExceeded": "card_velocity_exceeded",
    "pm_card_chargeDeclinedFraudulent": "fraudulent",
    "pm_card_authenticationRequired": "authentication_required",
}
"""The cards that refuse, and the decline code of each. Stripe also writes `pm_card_visa_chargeDeclined…`."""

UNKNOWN = "no_such_payment_method"
"""The decline code of every other token. Stripe calls that a faulty request; here it refuses, so that orders end."""

LEAST = 50
MOST = 99_999_999
"""Hundredths that a payment may have, in any currency: from 0.50, as Stripe wants it of most, to eight digits."""


def decline_code(amount: Money, method: str) -> str:
    """Why the card `method` does not pay `amount`; empty if it does."""
    known = method.replace("pm_card_visa_chargeDeclined", "pm_card_chargeDeclined")
    if known in DECLINED:
        return DECLINED[known]
    if known not in GOOD:
        return UNKNOWN
    if amount.hundredths < LEAST:
        return "amount_too_small"
    return "amount_too_large" if amount.hundredths > MOST else ""
