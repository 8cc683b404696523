"""`PaymentProvider` in memory, which keeps the same contract as the one by RPC (`tests/contract/order`)."""

from __future__ import annotations

from dataclasses import dataclass

from shop_services.order.payments import PaymentRefused, PaymentVoided
from shop_services.runtime.errors import InvalidArgument, NotFound, Unavailable
from shop_services.runtime.money import Money

DECLINES = {
    "pm_card_chargeDeclined": "generic_decline",
    "pm_card_chargeDeclinedInsufficientFunds": "insufficient_funds",
}


@dataclass
class Charge:
    """What became of one key. `captures` and `refunds` count the movements of money; no amount: a tombstone."""

    amount: Money | None = None
    method: str = ""
    voided: bool = False
    captures: int = 0
    refunds: int = 0

    @property
    def refused(self) -> str:
        """The decline code; empty if the card is good."""
        return DECLINES.get(self.method, "")

    @property
    def net(self) -> int:
        """The net charge in hundredths."""
        return (self.captures - self.refunds) * (self.amount.hundredths if self.amount else 0)


class FakePayments:
    """Charges by key. While it is `away` nothing is done; the next `silent` calls do their work and tell nobody."""

    def __init__(self) -> None:
        self.charges: dict[str, Charge] = {}
        self.calls: list[tuple[str, str]] = []
        self.away = False
        self.silent = 0

    async def authorize(self, key: str, amount: Money, method: str) -> None:
        self._called("authorize", key)
        charge = self.charges.setdefault(key, Charge(amount, method))
        if charge.amount is not None and (charge.amount, charge.method) != (amount, method):
            raise InvalidArgument.of("key", "was used before, for another amount or payment method")
        self._answered()
        self._require_good(charge)

    async def capture(self, key: str) -> None:
        self._called("capture", key)
        charge = self.charges.get(key)
        if charge is None:
            raise NotFound("payment", key)
        if not charge.voided and not charge.refused:
            charge.captures = 1
        self._answered()
        self._require_good(charge)

    async def refund(self, key: str) -> None:
        self._called("refund", key)
        charge = self.charges.setdefault(key, Charge())
        if not charge.refused:
            charge.voided, charge.refunds = True, charge.captures
        self._answered()

    def net(self, key: str) -> int:
        """The net charge of `key` in hundredths; zero if it is unknown."""
        return self.charges[key].net if key in self.charges else 0

    def _called(self, what: str, key: str) -> None:
        self.calls.append((what, key))
        if self.away:
            raise Unavailable("the payment service cannot be asked")

    def _answered(self) -> None:
        if self.silent:
            self.silent -= 1
            raise Unavailable("the payment service cannot be asked")

    def _require_good(self, charge: Charge) -> None:
        if charge.voided:
            raise PaymentVoided
        if charge.refused:
            raise PaymentRefused(charge.refused)
