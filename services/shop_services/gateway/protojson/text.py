"""JSON text to and from the values that readers take and printers give."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NoReturn

from shop_services.gateway.protojson.errors import FieldError


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise FieldError("", f"is not valid JSON: {twice!r} appears twice in an object")
    return members


def _no_number(name: str) -> NoReturn:
    raise FieldError("", f"is not valid JSON: {name} is no number there (as a string it is)")


_decoder = json.JSONDecoder(object_pairs_hook=_members, parse_constant=_no_number)
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False, allow_nan=False)


def loads(data: bytes) -> Any:
    """The value that `data` spells, which must be UTF-8.

    Raises:
        FieldError: it is not JSON, with the position; its path is empty.
    """
    try:
        return _decoder.decode(data.decode())
    except json.JSONDecodeError as error:
        raise FieldError("", f"is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise FieldError("", f"is not valid JSON: not UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise FieldError("", "is nested too deep") from None
    except ValueError as error:
        if isinstance(error, FieldError):
            raise
        raise FieldError("", "is not valid JSON: a number has too many digits") from None


def dumps(value: Any) -> bytes:
    """The shortest JSON of what a printer gave, as UTF-8."""
    return _encoder.encode(value).encode()
