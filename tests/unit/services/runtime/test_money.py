"""Money is exact, and of one currency."""

from __future__ import annotations

import pytest
from google.type import money_pb2
from hypothesis import given
from hypothesis import strategies as st

from shop_services.runtime.errors import FailedPrecondition, InvalidArgument
from shop_services.runtime.money import Money, from_proto, to_proto, total

amounts = st.integers(-(2**63) + 1, 2**63 - 1)


@given(amounts)
def test_money_survives_the_wire(hundredths: int) -> None:
    """What is sent is what arrives, of either sign, however large."""
    money = Money("EUR", hundredths)
    sent = to_proto(money)
    assert from_proto(sent, "price") == money
    assert sent.units * sent.nanos >= 0


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=20), st.integers(0, 1000))
def test_sums_and_products_are_those_of_whole_numbers(parts: list[int], count: int) -> None:
    """Counting money is counting hundredths."""
    moneys = [Money("EUR", part) for part in parts]
    assert total(moneys) == Money("EUR", sum(parts))
    assert moneys[0] * count == Money("EUR", parts[0] * count)
    assert (moneys[0] - moneys[-1]) + moneys[-1] == moneys[0]


def test_tenths_add_up_exactly() -> None:
    """0.1 + 0.2 is 0.3."""
    tenth = from_proto(money_pb2.Money(currency_code="EUR", nanos=100_000_000), "a")
    assert to_proto(tenth + tenth * 2) == money_pb2.Money(currency_code="EUR", nanos=300_000_000)


def test_currencies_do_not_mix() -> None:
    """Euros and dollars cannot be counted together."""
    with pytest.raises(FailedPrecondition, match="EUR and USD"):
        Money("EUR", 1) + Money("USD", 1)
    with pytest.raises(FailedPrecondition):
        Money("EUR", 1) - Money("USD", 1)
    with pytest.raises(FailedPrecondition):
        total([Money("EUR", 1), Money("USD", 1)])


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (money_pb2.Money(currency_code="EUR", units=1, nanos=-10_000_000), "price.nanos"),
        (money_pb2.Money(currency_code="EUR", units=-1, nanos=10_000_000), "price.nanos"),
        (money_pb2.Money(currency_code="EUR", nanos=1_000_000_000), "price.nanos"),
        (money_pb2.Money(currency_code="EUR", nanos=1), "price.nanos"),
        (money_pb2.Money(currency_code="euro", units=1), "price"),
        (money_pb2.Money(units=1), "price"),
        (money_pb2.Money(currency_code="EUR", units=2**62), "price"),
    ],
)
def test_a_malformed_amount_is_refused_with_its_field(message: money_pb2.Money, field: str) -> None:
    """The rules of google.type.Money hold, and hundredths are the finest."""
    with pytest.raises(InvalidArgument) as caught:
        from_proto(message, "price")
    assert [path for path, _ in caught.value.violations] == [field]


@pytest.mark.parametrize("hundredths", [1.0, True, 2**63, "1"])
def test_an_amount_is_a_whole_number_of_64_bits(hundredths: object) -> None:
    """No float, no bool, nothing that a database could not hold."""
    with pytest.raises(ValueError, match=r"whole number|64 bits"):
        Money("EUR", hundredths)  # type: ignore[arg-type]


def test_money_is_not_multiplied_by_fractions() -> None:
    """Half of an amount is a question of rounding that somebody must answer first."""
    with pytest.raises(TypeError):
        Money("EUR", 1) * 0.5  # type: ignore[operator]


def test_the_total_of_nothing_has_no_currency() -> None:
    """It is refused, since no answer would be right."""
    with pytest.raises(ValueError, match="not enough values"):
        total([])


def test_money_reads_well() -> None:
    """For logs and messages."""
    assert [str(Money("EUR", n)) for n in (1, -1, 1234, -100)] == ["0.01 EUR", "-0.01 EUR", "12.34 EUR", "-1.00 EUR"]
