"""Scalars to and from the JSON of proto3: one function for each type of field, chosen once.

Readers raise `ValueError` with a text that says what would be right; whoever calls them knows the field.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor

ScalarPrinter = Callable[[Any], Any]
ScalarReader = Callable[[object], Any]

_TEXT_OF_INTEGER = re.compile(r"-?[0-9]{1,20}")
_TEXT_OF_NUMBER = re.compile(r"-?[0-9]{1,400}(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,4})?")
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_INTEGERS = {
    FieldDescriptor.CPPTYPE_INT32: ("int32", -(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: ("int64", -(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: ("uint32", 0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: ("uint64", 0, 2**64 - 1),
}
_FLOAT_MAX = 3.4028235677973366e38  # what rounds to infinity as a 32-bit float begins here
_EXACT_IN_DOUBLE = 2**53


def scalar_printer(field: FieldDescriptor) -> ScalarPrinter | None:
    """What makes JSON of a value of `field`; None if the value is JSON as it is."""
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda value: base64.b64encode(value).decode("ascii")
    if field.cpp_type in (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64):
        return str  # a JSON number is a double to most readers, which holds no more than 53 bits
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return print_double
    if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT:
        return lambda value: print_double(_shortest_float(value))
    if field.enum_type is not None:
        return _enum_printer(field.enum_type)
    return None


def print_double(value: float) -> float | int | str:
    """A double: text where JSON has no number for it, and without `.0` where it is a whole number."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    negative_zero = value == 0 and math.copysign(1, value) < 0
    if value.is_integer() and abs(value) < _EXACT_IN_DOUBLE and not negative_zero:
        return int(value)
    return value


def scalar_reader(field: FieldDescriptor) -> ScalarReader:
    """What makes a value for `field` of JSON."""
    if field.cpp_type in _INTEGERS:
        return _integer_reader(*_INTEGERS[field.cpp_type])
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return _read_bool
    if field.enum_type is not None:
        return _enum_reader(field.enum_type)
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return read_double
    if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT:
        return _read_float
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _read_bytes
    return read_string


def text_reader(field: FieldDescriptor) -> Callable[[str], Any]:
    """What makes a value for `field` of text that stands in a path, a query or the key of a map."""
    # Everything but bool has a form as a JSON string already.
    return _read_bool_text if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else scalar_reader(field)


def read_string(value: object) -> str:
    """Text. JSON can spell half a surrogate pair, which no UTF-8 can."""
    if not isinstance(value, str):
        raise ValueError("must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("has half of a surrogate pair") from None
    return value


def read_double(value: object) -> float:
    """A double, from a number or its text."""
    if isinstance(value, str):
        if value in _SPECIAL:
            return _SPECIAL[value]
        if not _TEXT_OF_NUMBER.fullmatch(value):
            raise ValueError("must be a number")
        number = float(value)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    else:
        raise ValueError("must be a number")
    if math.isinf(number):  # `loads` takes no Infinity, so this was a finite number that is too large
        raise ValueError("is out of range")
    return number


def _read_float(value: object) -> float:
    number = read_double(value)
    if math.isfinite(number) and abs(number) >= _FLOAT_MAX:
        raise ValueError("is out of range")
    return number


def _shortest_float(value: float) -> float:
    """The double with the fewest digits that is `value` as a 32-bit float: 0.1, not 0.10000000149011612."""
    if math.isfinite(value):
        for digits in range(6, 9):
            candidate = float(f"{value:.{digits}g}")
            if abs(candidate) < _FLOAT_MAX and struct.unpack("f", struct.pack("f", candidate))[0] == value:
                return candidate
    return value


def _integer_reader(name: str, least: int, most: int) -> ScalarReader:
    def read(value: object) -> int:
        number = _integer(value)
        if not least <= number <= most:
            raise ValueError(f"is out of range: {name} is from {least} to {most}")
        return number

    return read


def _integer(value: object) -> int:
    """A whole number. JSON may write it as 1, 1.0, 1e0 or "1"."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        if _TEXT_OF_INTEGER.fullmatch(value):
            return int(value)
        if _TEXT_OF_NUMBER.fullmatch(value):
            number = Decimal(value)
            # `adjusted` is the power of ten: beyond any type's range, and `int` would build as many digits as it says
            if number.adjusted() < 20 and number == number.to_integral_value():
                return int(number)
    raise ValueError("must be an integer")


def _read_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("must be true or false")


def _read_bool_text(text: str) -> bool:
    if text in ("true", "false"):
        return text == "true"
    raise ValueError("must be true or false")


def _read_bytes(value: object) -> bytes:
    """Bytes from base64 of either alphabet, padded or not."""
    if not isinstance(value, str):
        raise ValueError("must be a string of base64")
    text = value.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64") from None


def _enum_printer(enum: EnumDescriptor) -> ScalarPrinter:
    if enum.full_name == "google.protobuf.NullValue":
        return lambda value: None
    names = {number: value.name for number, value in enum.values_by_number.items()}
    return lambda number: names.get(number, number)


def _enum_reader(enum: EnumDescriptor) -> ScalarReader:
    if enum.full_name == "google.protobuf.NullValue":
        return _read_null
    numbers = {value.name: value.number for value in enum.values}
    integer = _integer_reader("an enum's number", -(2**31), 2**31 - 1)
    names = ", ".join(list(numbers)[:20]) + (", …" if len(numbers) > 20 else "")

    def read(value: object) -> int:
        if isinstance(value, str) and value in numbers:
            return numbers[value]
        try:
            number: int = integer(value)
        except ValueError:
            raise ValueError(f"must be one of {names}") from None
        if enum.is_closed and number not in enum.values_by_number:
            raise ValueError(f"must be one of {names}")
        return number

    return read


def _read_null(value: object) -> int:
    if value in (None, "NULL_VALUE"):
        return 0
    raise ValueError("must be null")
