"""What is stored outside of the process comes back the same, or not at all."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shop_services.product.domain import Product
from shop_services.product.encoding import PageCodec, ProductCodec
from shop_services.product.position import Position, read_position
from shop_services.runtime.errors import InvalidArgument
from shop_services.runtime.money import Money
from shop_services.runtime.paging import Page

_texts = st.text(st.characters(codec="utf-8"), max_size=20)
_numbers = st.integers(-(2**63) + 1, 2**63 - 1)
_times = st.datetimes(timezones=st.just(UTC))
_products = st.builds(
    Product,
    *([_texts] * 5),
    st.builds(Money, st.just("EUR"), _numbers),
    _times,
    _times,
    _numbers,
    _numbers,
)


@given(_products)
def test_a_product_comes_back(product: Product) -> None:
    """With every field as it was."""
    assert ProductCodec().loads(ProductCodec().dumps(product)) == product


@given(st.lists(_products, max_size=3), _texts)
def test_a_page_comes_back(products: list[Product], token: str) -> None:
    """With its products in their order, and its token."""
    page = Page(tuple(products), token)
    assert PageCodec().loads(PageCodec().dumps(page)) == page


@given(
    st.binary(max_size=50)
    | st.recursive(st.none() | st.integers() | st.text(max_size=3), st.lists, max_leaves=20).map(
        lambda value: repr(value).replace("'", '"').replace("None", "null").encode()
    )
)
@example(b'[1, ["", []]]')
def test_anything_else_is_refused(data: bytes) -> None:
    """By an exception, whatever it is: what is read is what would be written, as a page without products may be."""
    for codec in (ProductCodec(), PageCodec()):
        try:
            found: Any = codec.loads(data)
        except Exception:  # noqa: S112 - the contract of a codec
            continue
        assert json.loads(codec.dumps(found)) == json.loads(data)


def test_fields_of_the_wrong_kind_are_refused() -> None:
    """A number where a text belongs makes no product."""
    data = ProductCodec().dumps(
        Product("i", "s", "n", "d", "c", Money("EUR", 1), datetime(2026, 1, 1, tzinfo=UTC),
                datetime(2026, 1, 1, tzinfo=UTC), 1, 1)
    )  # fmt: skip
    for wrong in (data.replace(b'"s"', b"1"), data.replace(b'"EUR"', b'"eu"'), data.replace(b"+00:00", b"")):
        assert wrong != data
        with pytest.raises(ValueError, match=r"."):
            ProductCodec().loads(wrong)


@pytest.mark.parametrize("position", [Position(), Position(7), Position(0, 3), Position(10**17, 10**17)])
def test_a_position_is_read_as_it_was_written(position: Position) -> None:
    """In the metadata that carries it."""
    assert read_position(str(position)) == position


@pytest.mark.parametrize("text", ["", "x", "-1", "1-", "1.5", "1" * 19, "\uff11", b"1"])
def test_what_is_no_position_is_refused(text: str | bytes) -> None:
    """With the name of the metadata key."""
    with pytest.raises(InvalidArgument, match="catalog-revision"):
        read_position(text)
