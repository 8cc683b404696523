"""The messages that we write and read by hand, against those of grpc.health.v1 itself."""

from __future__ import annotations

import pytest
from grpc_health.v1 import health_pb2
from hypothesis import example, given
from hypothesis import strategies as st

from grpc_balancer.health_messages import STATUSES, decode_response, encode_request


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("")
@example("a" * 127)
@example("a" * 128)
@example("ä" * 20_000)
def test_requests_are_what_protobuf_writes(service: str) -> None:
    """The bytes of a request for any service name are protobuf's own."""
    assert encode_request(service) == health_pb2.HealthCheckRequest(service=service).SerializeToString()


@pytest.mark.parametrize("status", [*STATUSES, 4, 300])
def test_responses_are_read_as_protobuf_writes_them(status: int) -> None:
    """Any status comes back, also one that was added later."""
    assert decode_response(health_pb2.HealthCheckResponse(status=status).SerializeToString()) == status


def test_the_names_are_those_of_the_protocol() -> None:
    """Our names for the statuses are the enum's."""
    assert {value: name for name, value in health_pb2.HealthCheckResponse.ServingStatus.items()} == STATUSES


@pytest.mark.parametrize(
    "more",
    [b"\x10\x05", b"\x10\xff\xff\x03", b"\x11" + bytes(8), b"\x1a\x03abc", b"\x25" + bytes(4), b"\x92\x01\x00"],
)
def test_fields_that_are_not_known_are_passed_over(more: bytes) -> None:
    """Whatever a later version adds, before or after, the status is read."""
    assert decode_response(more + b"\x08\x01") == decode_response(b"\x08\x01" + more) == 1


@pytest.mark.parametrize(
    "message",
    [b"\x08", b"\x08\x80", b"\x0a\x05ab", b"\x09\x00", b"\x0d\x00", b"\x0b", b"\x08" + b"\x80" * 11, b"\xff" * 3],
)
def test_what_is_no_message_has_no_status(message: bytes) -> None:
    """Cut off, too long or of an unknown kind: None, and no error."""
    assert decode_response(message) is None


@given(st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(message: bytes) -> None:
    """Nothing that a server sends raises, and what protobuf reads is read alike."""
    try:
        expected = health_pb2.HealthCheckResponse.FromString(message)
    except Exception:  # of an implementation of protobuf, each of which has its own
        decode_response(message)
        return
    status = decode_response(message)
    assert status is None or status & 0xFFFF_FFFF == expected.status & 0xFFFF_FFFF
