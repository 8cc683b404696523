from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_services.gateway.escapes import InvalidEscape
from shop_services.gateway.routes import ANY_METHOD, Conflict, NoRoute, Routes, WrongMethod
from shop_services.gateway.templates import Template, Wildcard, parse


def routes(*specifications: str) -> Routes[str]:
    result: Routes[str] = Routes()
    for specification in specifications:
        method, _, template = specification.partition(" ")
        result.add(method, parse(template), specification)
    return result


def found(table: Routes[str], method: str, path: str) -> tuple[str, tuple[str, ...]]:
    match = table.match(method, path)
    return match.route.target, match.captured


SHOP = routes(
    "POST /v1/orders",
    "GET /v1/orders",
    "GET /v1/orders/{order_id}",
    "GET /v1/orders/mine",
    "POST /v1/orders/{order_id}:cancel",
    "GET /v1/products:batchGet",
    "GET /v1/products/{product_id}/stock",
    "GET /v1/cache/{namespace}/entries/{key=**}",
    "POST /v1/cache/{namespace}:clear",
    "POST /v1/cache/{namespace}/entries/{key=**}:compareAndSet",
)


@pytest.mark.parametrize(
    ("request_line", "target", "captured"),
    [
        ("GET /v1/orders", "GET /v1/orders", ()),
        ("GET /v1/orders/o1", "GET /v1/orders/{order_id}", ("o1",)),
        ("GET /v1/orders/mine", "GET /v1/orders/mine", ()),
        ("GET /v1/orders/%6dine", "GET /v1/orders/mine", ()),
        ("GET /v1/orders/a%2Fb", "GET /v1/orders/{order_id}", ("a/b",)),
        ("POST /v1/orders/o1:cancel", "POST /v1/orders/{order_id}:cancel", ("o1",)),
        ("POST /v1/orders/a:b:cancel", "POST /v1/orders/{order_id}:cancel", ("a:b",)),
        ("GET /v1/orders/o1:unknown", "GET /v1/orders/{order_id}", ("o1:unknown",)),
        ("GET /v1/orders/o1%3Acancel", "GET /v1/orders/{order_id}", ("o1:cancel",)),
        ("GET /v1/products:batchGet", "GET /v1/products:batchGet", ()),
        ("GET /v1/products/p/stock", "GET /v1/products/{product_id}/stock", ("p",)),
        ("GET /v1/cache/n/entries/a/b//c", "GET /v1/cache/{namespace}/entries/{key=**}", ("n", "a/b//c")),
        ("GET /v1/cache/n/entries/", "GET /v1/cache/{namespace}/entries/{key=**}", ("n", "")),
        ("GET /v1/cache/n/entries", "GET /v1/cache/{namespace}/entries/{key=**}", ("n", "")),
        ("GET /v1/cache/n/entries/a:clear", "GET /v1/cache/{namespace}/entries/{key=**}", ("n", "a:clear")),
        ("POST /v1/cache/n:clear", "POST /v1/cache/{namespace}:clear", ("n",)),
        (
            "POST /v1/cache/n/entries/a/b:compareAndSet",
            "POST /v1/cache/{namespace}/entries/{key=**}:compareAndSet",
            ("n", "a/b"),
        ),
        ("GET /v1/orders/:cancel", "GET /v1/orders/{order_id}", (":cancel",)),
        ("HEAD /v1/orders/o1", "GET /v1/orders/{order_id}", ("o1",)),
    ],
)
def test_a_request_finds_its_route(request_line: str, target: str, captured: tuple[str, ...]) -> None:
    """Literals go before wildcards, verbs before text with a colon, and values come decoded."""
    method, _, path = request_line.partition(" ")
    assert found(SHOP, method, path) == (target, captured)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "v1/orders",
        "/v1",
        "/v1/orders/",
        "/v1//orders",
        "/v1/orders/o1/x",
        "/V1/orders",
        "/v1/products",
    ],
)
def test_an_unknown_path_has_no_route(path: str) -> None:
    """A path that no template matches, under whatever method, is not found; an empty segment is nothing's name."""
    with pytest.raises(NoRoute):
        SHOP.match("GET", path)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/v1/orders", ("GET", "HEAD", "POST")),
        ("GET", "/v1/orders/o1:cancel", ("POST",)),
        ("PUT", "/v1/orders/o1", ("GET", "HEAD")),
        ("OPTIONS", "/v1/orders/mine", ("GET", "HEAD")),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(method: str, path: str, allowed: tuple[str, ...]) -> None:
    """A path that exists under other methods names them all."""
    with pytest.raises(WrongMethod) as caught:
        SHOP.match(method, path)
    assert caught.value.allowed == allowed


def test_a_less_literal_route_serves_the_methods_that_a_more_literal_one_lacks() -> None:
    """The method is part of the choice: DELETE of a special name falls to the general route that has DELETE."""
    table = routes("GET /users/me", "DELETE /users/{id}")
    assert found(table, "DELETE", "/users/me") == ("DELETE /users/{id}", ("me",))


def test_a_dead_end_is_left_again() -> None:
    """A literal that leads nowhere does not hide a wildcard that leads somewhere."""
    table = routes("GET /a/b/c", "GET /a/*/d", "GET /{rest=**}")
    assert found(table, "GET", "/a/b/d") == ("GET /a/*/d", ())
    assert found(table, "GET", "/a/b/e") == ("GET /{rest=**}", ("a/b/e",))


def test_the_order_of_adding_does_not_matter() -> None:
    """Which route wins depends on the templates alone."""
    specifications = ["GET /a/{x}", "GET /a/b", "GET /{y=**}", "GET /{z}/b"]
    for table in (routes(*specifications), routes(*reversed(specifications))):
        assert found(table, "GET", "/a/b")[0] == "GET /a/b"
        assert found(table, "GET", "/a/c")[0] == "GET /a/{x}"
        assert found(table, "GET", "/c/b")[0] == "GET /{z}/b"
        assert found(table, "GET", "/c/c")[0] == "GET /{y=**}"


def test_any_method_serves_what_no_other_route_does() -> None:
    """A route of kind `*` takes every method but those that have a route of their own."""
    table = routes(f"{ANY_METHOD} /a", "POST /a")
    assert found(table, "POST", "/a")[0] == "POST /a"
    assert found(table, "PURGE", "/a")[0] == "* /a"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("GET /v1/{a}/x", "GET /v1/{b}/x"),
        ("GET /v1/{a=x/*}", "GET /v1/x/{b}"),
        ("GET /v1/{a=**}", "GET /v1/**"),
        ("POST /v1/{a}:do", "POST /v1/*:do"),
    ],
)
def test_two_routes_that_no_path_tells_apart_conflict(first: str, second: str) -> None:
    """The second is refused when it is added, and the message names both."""
    with pytest.raises(Conflict) as caught:
        routes(first, second)
    assert first in str(caught.value)
    assert second in str(caught.value)


def test_routes_that_differ_in_method_or_verb_do_not_conflict() -> None:
    """Only what no request tells apart is a conflict."""
    assert found(routes("GET /a/{x}", "PUT /a/{y}", "GET /a/{z}:do"), "GET", "/a/1:do")[0] == "GET /a/{z}:do"


def test_a_path_that_cannot_be_decoded_is_an_error() -> None:
    """It is neither found nor not found."""
    with pytest.raises(InvalidEscape):
        SHOP.match("GET", "/v1/orders/%zz")


TEMPLATES = [
    "/a",
    "/a/b",
    "/a/{x}",
    "/{x}/b",
    "/a/{x}/c",
    "/{x}/{y}/c",
    "/a/{x=**}",
    "/b/{x=c/*}",
    "/a/{x}:v",
    "/a:v",
    "/b/{x=**}:v",
]


def as_regex(template: Template) -> re.Pattern[str]:
    wild = {Wildcard.ONE: "/[^/]+", Wildcard.REST: "(?:/.*)?"}
    parts = [wild[segment] if isinstance(segment, Wildcard) else f"/{segment}" for segment in template.segments]
    return re.compile("".join(parts) + (f":{template.verb}" if template.verb else ""))


@given(st.lists(st.sampled_from(["a", "b", "c", "d", "a:v", "c:v", ":v", ""]), min_size=1, max_size=4))
def test_a_route_is_found_exactly_where_a_template_matches(segments: list[str]) -> None:
    """The tree finds a route if and only if some template, read as a regular expression, matches the path."""
    path = "/" + "/".join(segments)
    expected = any(as_regex(parse(text)).fullmatch(path) for text in TEMPLATES)
    table = routes(*(f"GET {text}" for text in TEMPLATES))
    try:
        match = table.match("GET", path)
    except NoRoute:
        assert not expected
    else:
        assert as_regex(match.route.template).fullmatch(path)
