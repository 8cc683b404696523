"""Bytes made wrong: what every fuzzer here does to what was right before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

_USUAL = 64 * 1024
_LONG = 1024 * 1024
_OFTEN_LONG = 0.02

_INTERESTING = (0x00, 0x01, 0x0A, 0x0D, 0x20, 0x22, 0x25, 0x2F, 0x3A, 0x7F, 0x80, 0xC0, 0xED, 0xFE, 0xFF)


def spoilt(rng: Random, data: bytes, tokens: Sequence[bytes], *, most: int | None = None) -> bytes:
    """`data` after one to four changes, at most `most` bytes long (default: 64 KiB, and now and then 1 MiB)."""
    longest = most or (_LONG if rng.random() < _OFTEN_LONG else _USUAL)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        data = rng.choice(_CHANGES)(rng, data, tokens, longest)
    return data[:longest]


def rubbish(rng: Random, most: int) -> bytes:
    """Any bytes, up to `most`; short ones more often."""
    share: float = rng.random() ** 3
    return rng.randbytes(int(most * share))


def _span(rng: Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 1, 2, 4, 8, 16, 64, 1024)))


def _flip(rng: Random, data: bytes, _tokens: Sequence[bytes], _longest: int) -> bytes:
    if not data:
        return data
    at = rng.randrange(len(data))
    return data[:at] + bytes((data[at] ^ (1 << rng.randrange(8)),)) + data[at + 1 :]


def _overwrite(rng: Random, data: bytes, _tokens: Sequence[bytes], _longest: int) -> bytes:
    start, stop = _span(rng, data)
    return data[:start] + bytes(rng.choice(_INTERESTING) for _ in range(min(stop - start, 4))) + data[stop:]


def _insert(rng: Random, data: bytes, tokens: Sequence[bytes], _longest: int) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + (rng.choice(tokens) if tokens and rng.random() < 0.7 else rubbish(rng, 16)) + data[at:]


def _replace(rng: Random, data: bytes, tokens: Sequence[bytes], _longest: int) -> bytes:
    start, stop = _span(rng, data)
    return data[:start] + (rng.choice(tokens) if tokens else b"") + data[stop:]


def _delete(rng: Random, data: bytes, _tokens: Sequence[bytes], _longest: int) -> bytes:
    start, stop = _span(rng, data)
    return data[:start] + data[stop:]


def _cut(rng: Random, data: bytes, _tokens: Sequence[bytes], _longest: int) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _repeat(rng: Random, data: bytes, tokens: Sequence[bytes], longest: int) -> bytes:
    """A part of it very often, or a token: what shows that something takes more time the longer it already took."""
    start, stop = _span(rng, data)
    part = rng.choice(tokens) if tokens and rng.random() < 0.3 else data[start:stop]
    if not part:
        return data
    times = min(1 << rng.randrange(1, 21), max(1, (longest - len(data)) // len(part)))
    return data[:start] + part * times + data[stop:]


def _swap(rng: Random, data: bytes, _tokens: Sequence[bytes], _longest: int) -> bytes:
    first, second, third = sorted(rng.randrange(len(data) + 1) for _ in range(3))
    return data[:first] + data[second:third] + data[first:second] + data[third:]


_CHANGES: tuple[Callable[[Random, bytes, Sequence[bytes], int], bytes], ...] = (
    _flip,
    _overwrite,
    _insert,
    _insert,
    _replace,
    _delete,
    _cut,
    _repeat,
    _swap,
)
