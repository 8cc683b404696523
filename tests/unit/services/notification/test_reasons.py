"""Reasons for programs, as they are said to people."""

from __future__ import annotations

import pytest

from shop_services.notification.reasons import kindly

ANOTHER = " You are welcome to order again with another card."


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("", ""),
        ("timed out", "It took too long to process."),
        ("not enough stock: product 'p1': asked 3, left 2", "Not enough is left of what you ordered."),
        ("there is no product 'p1'", "A product that you ordered is no longer sold."),
        ("its stock was released", "What you ordered was no longer set aside for you."),
        ("something new!", "Something new!"),
        ("payment refused: insufficient_funds", f"There is not enough money on the card.{ANOTHER}"),
        ("payment refused: expired_card", f"The card has expired.{ANOTHER}"),
        ("payment refused: stolen_card", f"The bank refused the payment.{ANOTHER}"),
        ("payment refused: a_code_of_tomorrow", f"The bank refused the payment.{ANOTHER}"),
        ("payment refused:", f"The bank refused the payment.{ANOTHER}"),
        ("two\r\nlines", "Two lines."),
    ],
)
def test_a_reason_is_said_in_whole_sentences(reason: str, said: str) -> None:
    """Decline codes are put into words that help, a lost or stolen card is not called that, others are kept."""
    assert kindly(reason) == said
