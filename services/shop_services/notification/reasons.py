"""Why an order was not fulfilled, said to the person who ordered."""

from __future__ import annotations

import re

from shop_services.notification.domain import one_line

_REFUSED = re.compile(r"payment refused: *(\w*)")

# The decline codes of Stripe that a shopper can do something about. The others say no more than that the bank refused:
# Stripe advises against telling the holder of a card that it was reported as lost or stolen.
_DECLINED = {
    "card_velocity_exceeded": "The limit of the card is reached.",
    "expired_card": "The card has expired.",
    "incorrect_cvc": "The security code of the card is wrong.",
    "incorrect_number": "The number of the card is wrong.",
    "insufficient_funds": "There is not enough money on the card.",
    "processing_error": "The bank could not process the payment at that moment.",
}
# What the order service says, by how it begins. It names products by ids, which tell a shopper nothing.
_SAID = {
    "not enough stock": "Not enough is left of what you ordered.",
    "there is no product": "A product that you ordered is no longer sold.",
    "its stock was released": "What you ordered was no longer set aside for you.",
    "timed out": "It took too long to process.",
}
_ANOTHER_CARD = "You are welcome to order again with another card."


def kindly(reason: str) -> str:
    """Why an order failed, as whole sentences; empty if `reason` is."""
    if refused := _REFUSED.match(reason):
        return f"{_DECLINED.get(refused[1], 'The bank refused the payment.')} {_ANOTHER_CARD}"
    for beginning, said in _SAID.items():
        if reason.startswith(beginning):
            return said
    sentence = one_line(reason)
    if sentence and sentence[-1] not in ".!?":
        sentence += "."
    return sentence[:1].upper() + sentence[1:]
