from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_services.gateway.errors import Refusal
from shop_services.gateway.metadata import Metadata, answer_headers, read_head


def metadata(*headers: tuple[str, str]) -> Metadata:
    return read_head([(name.lower().encode(), value.encode("latin-1")) for name, value in headers]).metadata


def test_chosen_headers_become_metadata() -> None:
    """Authorization and Grpc-Metadata-* go along, repeated ones each; all others stay at the gateway."""
    assert metadata(
        ("Authorization", "Bearer x"),
        ("Grpc-Metadata-Tenant", "a"),
        ("Grpc-Metadata-Tenant", "b"),
        ("Grpc-Metadata-Trace-Bin", "AQI"),
        ("Cookie", "secret"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("User-Agent", "curl"),
    ) == [("authorization", "Bearer x"), ("tenant", "a"), ("tenant", "b"), ("trace-bin", b"\x01\x02")]


@pytest.mark.parametrize(
    "headers",
    [
        [("Grpc-Metadata-A", "x" * 6500)],
        [("Grpc-Metadata-A", "x" * 2000), ("Grpc-Metadata-B-Bin", "AAAA" * 500), ("Authorization", "x" * 3000)],
        [("Grpc-Metadata-A", "")] * 200,
    ],
)
def test_more_metadata_than_a_server_takes_are_refused(headers: list[tuple[str, str]]) -> None:
    """431, and not the server's own answer, which is 429, as if somebody had asked too often."""
    with pytest.raises(Refusal, match="more than 6144 bytes together") as caught:
        metadata(*headers)
    assert caught.value.http_status == 431
    assert metadata(("Grpc-Metadata-A", "x" * 6000)) == [("a", "x" * 6000)]


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("Grpc-Metadata-X-Request-Id", "x", "names a key that cannot be set"),
        ("Grpc-Metadata-Authorization", "x", "names a key that cannot be set"),
        ("Grpc-Metadata-Grpc-Timeout", "1S", "names a key that cannot be set"),
        ("Grpc-Metadata-", "x", "names a key that cannot be set"),
        ("Grpc-Metadata-A~B", "x", "names a key that cannot be set"),
        ("Grpc-Metadata-A", "é", "must be printable ASCII"),
        ("Authorization", "Bearer é", "must be printable ASCII"),
        ("Grpc-Metadata-A-Bin", "?", "must be base64, since its name ends in -bin"),
        ("Grpc-Timeout", "soon", "must be up to 8 digits and a unit"),
        ("Grpc-Timeout", "123456789S", "must be up to 8 digits and a unit"),
        ("Grpc-Timeout", "-1S", "must be up to 8 digits and a unit"),
    ],
)
def test_a_header_that_cannot_go_along_is_refused(name: str, value: str, complaint: str) -> None:
    """What gRPC could not carry, or what is the gateway's own to say, is INVALID_ARGUMENT, naming the header."""
    with pytest.raises(Refusal) as caught:
        metadata((name, value))
    assert caught.value.http_status == 400
    assert caught.value.status.message == f"header {name.lower()}: {complaint}" or complaint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2H", 7200), ("3M", 180), ("10S", 10), ("500m", 0.5), ("7u", 7e-6), ("99999999n", 0.099999999)],
)
def test_a_timeout_has_grpcs_units(text: str, seconds: float) -> None:
    """Grpc-Timeout is read as gRPC over HTTP/2 writes it."""
    assert read_head([(b"grpc-timeout", text.encode())]).timeout == pytest.approx(seconds)


def test_a_body_is_announced_by_its_headers() -> None:
    """Without a length or a transfer encoding there is no body (RFC 9112, section 6.3)."""
    assert not read_head([]).has_body
    assert not read_head([(b"content-length", b"0")]).has_body
    assert read_head([(b"content-length", b"5")]).content_length == 5
    assert read_head([(b"transfer-encoding", b"chunked")]).has_body


def test_metadata_of_the_answer_becomes_headers() -> None:
    """Initial metadata are Grpc-Metadata-*, trailing ones Grpc-Trailer-*; gRPC's own and the request id stay out."""
    initial: Metadata = [("a", "1"), ("b-bin", b"\x01"), ("x-request-id", "r"), ("tenant", "t")]
    trailing: Metadata = [("c", " 2 "), ("grpc-status-details-bin", b"x"), ("content-type", "x")]
    assert answer_headers(initial, trailing) == (
        (b"grpc-metadata-a", b"1"),
        (b"grpc-metadata-b-bin", b"AQ=="),
        (b"grpc-metadata-tenant", b"t"),
        (b"grpc-trailer-c", b"2"),
    )


@given(st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=30))))
def test_any_headers_are_read_or_refused(headers: list[tuple[bytes, bytes]]) -> None:
    """No header makes reading fail in another way than by a refusal."""
    try:
        head = read_head([(b"grpc-metadata-" + name.lower(), value) for name, value in headers])
    except Refusal:
        return
    assert len(head.metadata) == len(headers)
