"""Amounts of money as whole hundredths of a currency's unit: exact, never a float, never of two currencies at once.

The API allows two decimals at most, so hundredths hold every amount, also of currencies that use fewer decimals. In a
database an amount is a 64-bit integer and a currency.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from google.type import money_pb2

from shop_services.runtime.errors import FailedPrecondition, InvalidArgument

_CURRENCY = re.compile(r"[A-Z]{3}")
_NANOS = 1_000_000_000
_NANOS_PER_HUNDREDTH = 10_000_000
_MOST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Money:
    """`hundredths` of the unit of `currency` (ISO 4217, capitals). Amounts may be negative: a difference.

    Raises:
        ValueError: the currency is malformed, or the amount does not fit into 64 bits.
    """

    currency: str
    hundredths: int

    def __post_init__(self) -> None:
        if not _CURRENCY.fullmatch(self.currency):
            raise ValueError(f"currency {self.currency!r}: three capital letters (ISO 4217)")
        if isinstance(self.hundredths, bool) or not isinstance(self.hundredths, int):
            raise ValueError("an amount of money is a whole number of hundredths")
        if abs(self.hundredths) > _MOST:
            raise ValueError("the amount does not fit into 64 bits")

    def __add__(self, other: Money) -> Money:
        self._same(other)
        return Money(self.currency, self.hundredths + other.hundredths)

    def __sub__(self, other: Money) -> Money:
        self._same(other)
        return Money(self.currency, self.hundredths - other.hundredths)

    def __mul__(self, count: int) -> Money:
        if isinstance(count, bool) or not isinstance(count, int):
            raise TypeError("money is multiplied by whole numbers alone")
        return Money(self.currency, self.hundredths * count)

    def __str__(self) -> str:
        units, rest = divmod(abs(self.hundredths), 100)
        return f"{'-' if self.hundredths < 0 else ''}{units}.{rest:02} {self.currency}"

    def _same(self, other: Money) -> None:
        if self.currency != other.currency:
            raise FailedPrecondition(
                "CURRENCY", other.currency, f"{self.currency} and {other.currency} cannot be counted together"
            )


def total(amounts: Iterable[Money]) -> Money:
    """The sum of `amounts`.

    Raises:
        FailedPrecondition: they are of several currencies.
        ValueError: there are none, so that no currency is known.
    """
    first, *others = amounts
    for amount in others:
        first += amount
    return first


def from_proto(message: money_pb2.Money, field: str) -> Money:
    """The amount in `message`.

    Raises:
        InvalidArgument: `field` breaks the rules of google.type.Money, or is finer than a hundredth.
    """
    units, nanos = message.units, message.nanos
    if not -_NANOS < nanos < _NANOS:
        raise InvalidArgument.of(f"{field}.nanos", "must be from -999,999,999 to 999,999,999")
    if units * nanos < 0:  # google.type.Money: of one sign
        raise InvalidArgument.of(f"{field}.nanos", "must have the sign of units")
    if nanos % _NANOS_PER_HUNDREDTH:
        raise InvalidArgument.of(f"{field}.nanos", "must be whole hundredths: at most two decimals")
    try:
        return Money(message.currency_code, units * 100 + nanos // _NANOS_PER_HUNDREDTH)
    except ValueError as error:
        raise InvalidArgument.of(field, str(error)) from None


def to_proto(money: Money) -> money_pb2.Money:
    """`money` as google.type.Money: units and nanos of one sign."""
    sign = -1 if money.hundredths < 0 else 1
    units, rest = divmod(abs(money.hundredths), 100)
    return money_pb2.Money(currency_code=money.currency, units=sign * units, nanos=sign * rest * _NANOS_PER_HUNDREDTH)
