"""Reading configuration from JSON field by field, so that an error says where the wrong value is and what may be there.

A reader takes a JSON value and its path, and returns what the value stands for, or raises.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")
Read = Callable[[Any, str], T]

_MOST_SECONDS = 315_576_000_000  # of google.protobuf.Duration: 10,000 years
_DURATION = re.compile(r"(?P<number>(?P<whole>[0-9]{1,12})(\.[0-9]{1,9})?|\.[0-9]{1,9})s")
_SHOWN_AT_MOST = 60


class InvalidServiceConfig(ValueError):
    """A service config breaks the rules; the message begins with the JSON path of what is wrong."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path or 'service config'}: {self.reason}"


class Fields:
    """A JSON object whose known fields are asked for one by one. What nobody asks for is unknown, and ignored."""

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, Mapping):
            raise wrong(value, path, "an object")
        self._fields: Mapping[str, Any] = value
        self._path = path

    def get(self, name: str, read: Read[T]) -> T | None:
        """The field, read; None if it is not there. `null` is not there either, as in the JSON form of protobuf."""
        value = self._fields.get(name)
        return None if value is None else read(value, self._path_of(name))

    def need(self, name: str, read: Read[T]) -> T:
        """The field, read; it must be there."""
        value = self._fields.get(name)
        if value is None:
            raise InvalidServiceConfig(self._path_of(name), "is required")
        return read(value, self._path_of(name))

    def _path_of(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name


def wrong(value: Any, path: str, allowed: str) -> InvalidServiceConfig:
    """The error that `value` is not what is `allowed` there."""
    shown = repr(value)
    if len(shown) > _SHOWN_AT_MOST:
        shown = shown[: _SHOWN_AT_MOST - 1] + "…"
    return InvalidServiceConfig(path, f"must be {allowed}, not {shown}")


def load(text: str) -> Any:
    """The value of a JSON text. Stricter than Python: no NaN, no Infinity, no field twice in an object."""
    try:
        return json.loads(text, object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
    except InvalidServiceConfig:
        raise
    except (ValueError, RecursionError) as error:
        raise InvalidServiceConfig("", f"is not JSON: {error}") from None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    loaded: dict[str, Any] = {}
    for name, value in pairs:
        if name in loaded:
            raise InvalidServiceConfig("", f"has an object with the field {name!r} twice")
        loaded[name] = value
    return loaded


def _refuse_constant(name: str) -> Any:
    raise InvalidServiceConfig("", f"is not JSON: {name}")


def items(value: Any, path: str) -> Iterator[tuple[Any, str]]:
    """The items of an array, each with its path."""
    if not isinstance(value, list | tuple):
        raise wrong(value, path, "an array")
    return ((item, f"{path}[{index}]") for index, item in enumerate(value))


def text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise wrong(value, path, "a text")
    return value


def boolean(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise wrong(value, path, "true or false")
    return value


def integer(least: int, most: float = math.inf) -> Read[int]:
    """Reads integers from `least` to `most`."""
    allowed = f"an integer of at least {least}" if most == math.inf else f"an integer from {least} to {most}"

    def read(value: Any, path: str) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise wrong(value, path, allowed)
        return value

    return read


def positive(value: Any, path: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
        raise wrong(value, path, "a number greater than 0")
    try:
        return float(value)
    except OverflowError:
        raise wrong(value, path, "a number that a double can hold") from None


def duration(value: Any, path: str) -> float:
    """Seconds, from the JSON form of google.protobuf.Duration; also without a digit before the point, as A6 has it."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found["whole"] or 0) > _MOST_SECONDS:
        raise wrong(value, path, "a duration in seconds, like '1.5s'")
    return float(found["number"])


def positive_duration(value: Any, path: str) -> float:
    seconds = duration(value, path)
    if not seconds:
        raise wrong(value, path, "a duration greater than '0s'")
    return seconds
