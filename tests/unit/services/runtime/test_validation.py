"""Requests that break the rules of their protos never reach a servicer."""

from __future__ import annotations

import time

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from shop.order.v1 import order_pb2
from shop.product.v1 import product_pb2
from shop.user.v1 import user_pb2
from shop_services.runtime.errors import InvalidArgument
from shop_services.runtime.validation import MAX_VIOLATIONS, Validation

ANN = user_pb2.User(id="u")
GOOD = user_pb2.CreateUserRequest(email="ann@example.com", username="ann", password="correct horse")


def _violations(request: Message) -> dict[str, str]:
    try:
        Validation().check(request)
    except InvalidArgument as error:
        return dict(error.violations)
    return {}


def _changed(**fields: object) -> user_pb2.CreateUserRequest:
    request = user_pb2.CreateUserRequest()
    request.CopyFrom(GOOD)
    request.MergeFrom(user_pb2.CreateUserRequest(**fields))  # type: ignore[arg-type]
    return request


def test_a_good_request_passes() -> None:
    """Nothing is wrong with it."""
    assert _violations(GOOD) == {}


def test_a_list_that_is_too_long_is_not_looked_at() -> None:
    """To compare each of its items with each takes seconds, and then gives up; how many there are is told at once."""
    request = order_pb2.CreateOrderRequest(items=[order_pb2.CreateOrderItem()] * 40_000)
    assert _violations(request) == {"items": "must contain no more than 100 item(s)"}


def test_every_broken_field_is_named() -> None:
    """All violations are told at once, each with its field."""
    found = _violations(user_pb2.CreateUserRequest(email="nobody", username="a", password="short"))
    assert list(found) == ["email", "username", "password"]
    assert found["email"] == "must be a valid email address"


def test_fields_inside_of_lists_and_messages_are_named_by_their_path() -> None:
    """Paths read as google.rpc.BadRequest writes them."""
    order = order_pb2.CreateOrderRequest(request_id="r", user_id="u")
    order.items.add(product_id="p", quantity=1)
    order.items.add(product_id="", quantity=0)
    assert list(_violations(order)) == ["items[1].product_id", "items[1].quantity"]

    update = user_pb2.UpdateUserRequest(user=user_pb2.User(id="u", email="nobody"))
    assert list(_violations(update)) == ["user.email"]
    assert list(_violations(user_pb2.UpdateUserRequest())) == ["user"]


def test_rules_in_cel_are_checked_too() -> None:
    """A rule written as an expression reports its own message."""
    request = product_pb2.CreateProductRequest(sku="s", name="n", category="c")
    request.price.currency_code = "euro"
    assert _violations(request) == {"price": "currency_code must be three capital letters (ISO 4217)"}


@pytest.mark.parametrize(
    ("request_message", "path"),
    [
        (_changed(display_name="a\0b"), "display_name"),
        (user_pb2.UpdateUserRequest(user=user_pb2.User(id="u", display_name="\0")), "user.display_name"),
        (user_pb2.UpdateUserRequest(user=ANN, update_mask=FieldMask(paths=["a", "\0"])), "update_mask.paths[1]"),
    ],
)
def test_a_nul_in_a_text_is_refused(request_message: Message, path: str) -> None:
    """NUL cannot be stored by PostgreSQL, so no text may hold it."""
    assert _violations(request_message) == {path: "must not contain the character NUL"}


def test_a_nul_in_a_map_is_refused() -> None:
    """Keys and values of maps are texts as well."""
    profile = Struct()
    profile.update({"a\0": 1, "b": "\0"})
    found = _violations(_changed(profile=profile))
    assert set(found) == {"profile.fields", 'profile.fields["b"].string_value'}


def test_zero_bytes_that_are_no_text_pass() -> None:
    """A number that serializes to zero bytes is not mistaken for one."""
    profile = Struct()
    profile.update({"half": 0.5})
    assert _violations(_changed(profile=profile)) == {}


def test_no_more_violations_are_told_than_anyone_reads() -> None:
    """A request that is wrong in a hundred places is told of fifty."""
    order = order_pb2.CreateOrderRequest(request_id="r", user_id="u")
    for _ in range(100):
        order.items.add(product_id="", quantity=1)
    with pytest.raises(InvalidArgument) as caught:
        Validation().check(order)
    assert len(caught.value.violations) == MAX_VIOLATIONS


def test_a_check_is_cheap() -> None:
    """The rules are compiled once: a check costs 100 µs at most, taking the best of several rounds."""
    validation = Validation()
    validation.check(GOOD)

    def one_round() -> float:
        started = time.perf_counter()
        for _ in range(200):
            validation.check(GOOD)
        return (time.perf_counter() - started) / 200

    assert min(one_round() for _ in range(5)) < 100e-6
