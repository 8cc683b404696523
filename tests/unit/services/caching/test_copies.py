from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_services.caching.copies import Copy, Unreadable, decode, encode
from tests.unit.services.caching.sources import Texts

revisions = st.integers(-(2**63), 2**63 - 1)


@given(st.text(), st.none() | st.text(), revisions, st.integers(0, 2**40))
def test_a_copy_survives_its_way_through_bytes(key: str, value: str | None, as_of: int, expires: int) -> None:
    """Value, absence, revision and the end of its life come back as they went."""
    expires_at = expires / 8
    back = decode(key, encode(key, Copy(value, as_of), expires_at, Texts()), Texts())
    assert (back.value, back.as_of) == (value, as_of)
    assert back.expires == pytest.approx(expires_at, abs=0.001)


@given(st.binary(max_size=100) | st.none() | st.text() | st.integers())
def test_garbage_is_no_copy(data: object) -> None:
    """Bytes that were not made by `encode`, and what is not bytes, are unreadable."""
    with pytest.raises(Unreadable, match="'key'"):
        decode("key", data, Texts())


@given(st.binary(min_size=1), st.integers(0), st.integers(1, 255))
def test_one_wrong_byte_makes_it_unreadable(value: bytes, place: int, flip: int) -> None:
    """Whichever byte is changed, in whichever way, it is noticed."""

    class Bytes:
        def dumps(self, value: bytes) -> bytes:
            return value

        def loads(self, data: bytes) -> bytes:
            return data

    data = bytearray(encode("key", Copy(value, 7), 1.0, Bytes()))
    data[place % len(data)] ^= flip
    with pytest.raises(Unreadable):
        decode("key", bytes(data), Bytes())


def test_a_copy_of_another_key_is_unreadable() -> None:
    """A cache that mixes up keys is found out."""
    data = encode("key", Copy("text", 7), 1.0, Texts())
    with pytest.raises(Unreadable, match="another key"):
        decode("other", data, Texts())


def test_what_the_codec_cannot_read_is_unreadable() -> None:
    """A value of another version of the program is a miss, and the error says what the codec found."""

    class Older(Texts):
        def loads(self, data: bytes) -> str:
            raise KeyError("no such field")

    with pytest.raises(Unreadable, match="no such field"):
        decode("key", encode("key", Copy("text", 7), 1.0, Texts()), Older())
