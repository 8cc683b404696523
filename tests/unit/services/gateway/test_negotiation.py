from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_services.gateway.errors import Refusal
from shop_services.gateway.negotiation import chosen

OFFERED = ("application/x-ndjson", "text/event-stream")


def choice(*accept: str) -> str:
    return chosen([(b"accept", each.encode("latin-1")) for each in accept], OFFERED)


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ((), OFFERED[0]),
        (("",), OFFERED[0]),
        (("*/*",), OFFERED[0]),
        (("application/*",), OFFERED[0]),
        (("text/event-stream",), OFFERED[1]),
        (("Text/Event-Stream",), OFFERED[1]),
        (("text/*",), OFFERED[1]),
        (("text/event-stream, */*",), OFFERED[1]),
        (("*/*", "text/event-stream"), OFFERED[1]),
        (("text/event-stream;q=0.5, */*",), OFFERED[0]),
        (("text/event-stream;q=0.5, application/x-ndjson;q=0.4",), OFFERED[1]),
        (("text/event-stream;q=0.5,application/x-ndjson ; charset=utf-8 ; Q=0.501",), OFFERED[0]),
        (("*/*, application/x-ndjson;q=0",), OFFERED[1]),
        (("text/html, application/xhtml+xml, */*;q=0.1",), OFFERED[0]),
        ((" , text/event-stream,,",), OFFERED[1]),
        (("text/event-stream;q=1.000",), OFFERED[1]),
    ],
)
def test_the_best_type_is_chosen(accept: tuple[str, ...], media: str) -> None:
    """The highest quality wins, of equals the one that is named, then the default; a precise range beats a wide one."""
    assert choice(*accept) == media


@pytest.mark.parametrize(
    "accept", ["application/json", "text/html", "*/*;q=0", "text/event-stream;q=0, text/*;q=0.000", "image/*"]
)
def test_nothing_acceptable_is_a_406(accept: str) -> None:
    """Where no type that is offered fits, the refusal names them."""
    with pytest.raises(Refusal) as caught:
        choice(accept)
    assert caught.value.http_status == 406
    assert all(media in str(caught.value) for media in OFFERED)


@pytest.mark.parametrize(
    "accept", ["text", "text/", "/x", "text/event-stream;q=2", "a/b;q=", "a/b;q=0.1234", "a/b;q=-1", "é/b", "a b/c"]
)
def test_a_malformed_header_is_refused(accept: str) -> None:
    """What is no list of media ranges is a 400 that says so."""
    with pytest.raises(Refusal) as caught:
        choice(accept)
    assert caught.value.http_status == 400
    assert str(caught.value).startswith("header accept: ")


@given(st.binary())
def test_any_header_is_answered(accept: bytes) -> None:
    """Whatever a client sends, it gets one of the types or a refusal of its own fault."""
    try:
        answer: object = chosen([(b"accept", accept)], OFFERED)
    except Refusal as refusal:
        answer = refusal.http_status
    assert answer in (*OFFERED, 400, 406)
