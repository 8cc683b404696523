"""Messages to and from the JSON of proto3, by plans that are made once for each message type.

protobuf's own `json_format` walks the descriptors again for each message, which takes two to three times as long, and
its errors are sentences, where a caller needs the path of the field. What is written and what is accepted are the same,
save where a docstring here says otherwise; tests compare the two.
"""

from shop_services.gateway.protojson.errors import FieldError, Unprintable
from shop_services.gateway.protojson.printer import Printer, field_printer, message_printer
from shop_services.gateway.protojson.reader import Reader, field_reader, message_reader
from shop_services.gateway.protojson.text import dumps, loads

__all__ = [
    "FieldError",
    "Printer",
    "Reader",
    "Unprintable",
    "dumps",
    "field_printer",
    "field_reader",
    "loads",
    "message_printer",
    "message_reader",
]
