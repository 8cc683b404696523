"""Why a card is not charged, as callers are told."""

from __future__ import annotations

from shop_services.runtime.errors import FailedPrecondition


class PaymentRefused(FailedPrecondition):
    """The card was refused, for good. The ErrorInfo has the `decline_code`."""

    default_reason = "PAYMENT_REFUSED"

    def __init__(self, key: str, decline_code: str) -> None:
        super().__init__("PAYMENT", key, f"payment {key!r} was refused: {decline_code}")
        self.metadata["decline_code"] = decline_code


class PaymentVoided(FailedPrecondition):
    """The payment was refunded before; nothing is charged for its key any more."""

    default_reason = "PAYMENT_VOIDED"

    def __init__(self, key: str) -> None:
        super().__init__("PAYMENT", key, f"payment {key!r} was refunded before")
