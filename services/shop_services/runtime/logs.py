"""Logs are JSON, one object a line, on stderr; those of libraries too, so that one reader understands all of it."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TextIO

import structlog

from shop_services.runtime.context import current

REDACTED = "[redacted]"

_SECRETS = ("password", "authorization", "cookie", "secret", "token", "api_key", "private_key")
_HARMLESS = ("page_token", "next_page_token")
_NESTED = (dict, list, tuple)
# structlog's own renderer makes an encoder for each line.
_encoder = json.JSONEncoder(default=repr)
_LEVELS = {"warn": "warning", "exception": "error"}  # of the methods that are not called as their level


def configure(service: str, instance: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Send all logs of this process, ours and those of `logging`, to `stream` (stderr), from `level` on.

    Every line has time (UTC, ISO 8601), level, event, service and instance, and, where a call is being served, its
    request_id and method. Values under names like password or authorization are replaced, at every depth.
    """
    output = stream or sys.stderr
    process: list[structlog.typing.Processor] = [
        _Heading(service, instance),
        structlog.processors.format_exc_info,
        redact,
    ]
    # Written directly: on its way through `logging`, a line costs three times as much.
    structlog.configure(
        processors=[*process, _render],
        logger_factory=structlog.WriteLoggerFactory(output),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *process],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _render],
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    logging.getLogger("grpc._cython.cygrpc").addFilter(_worth_a_line)
    for chatty in ("alembic", "sqlalchemy", "aiosqlite", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    silence_eof()


def silence_eof() -> None:
    """Drop what asyncio says at the end of each encrypted connection to NATS: all is well.

    It does since the client encrypts what was a plain connection.
    """
    logging.getLogger("asyncio").addFilter(_means_something)


def _means_something(record: logging.LogRecord) -> bool:
    return record.getMessage() != "returning true from eof_received() has no effect when using ssl"


def _worth_a_line(record: logging.LogRecord) -> bool:
    """Not what gRPC logs as an error, with a traceback, though any peer can cause it at will.

    The first is metadata that are no UTF-8: they are read as Latin-1. The second is a peer that left before its answer.
    """
    return not str(record.msg).startswith(("Invalid encoding on ", "ExecuteBatchError raised in core by servicer"))


def redact(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that replaces the values of names which suggest a secret."""
    for key, value in event.items():
        if _is_secret(key) or isinstance(value, _NESTED):
            event[key] = _redacted(key, value)
    return event


def _redacted(key: object, value: Any) -> Any:
    if isinstance(key, str) and _is_secret(key):
        return REDACTED
    if isinstance(value, dict):
        return {name: _redacted(name, item) for name, item in value.items()}
    if isinstance(value, _NESTED):
        return [_redacted_item(item) for item in value]
    return value


@lru_cache(maxsize=1024)  # the names in logs are always the same few
def _is_secret(name: str) -> bool:
    return name not in _HARMLESS and any(word in name.lower() for word in _SECRETS)


def _redacted_item(item: Any) -> Any:
    if isinstance(item, tuple) and len(item) == 2:  # metadata is a sequence of pairs of a name and a value
        return item[0], _redacted(item[0], item[1])
    return _redacted("", item)


class _Heading:
    """Begins a line with what all of them have. In one step, since each processor costs every line."""

    def __init__(self, service: str, instance: str) -> None:
        self._service, self._instance = service, instance

    def __call__(self, _logger: object, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        line = {
            "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
            "level": _LEVELS.get(name, name),
            "event": event.pop("event", ""),
            "service": self._service,
            "instance": self._instance,
        }
        if (serving := current()) is not None:
            line["request_id"], line["method"] = serving.request_id, serving.method
        return {**line, **event}


def _render(_logger: object, _name: str, event: MutableMapping[str, Any]) -> str:
    return _encoder.encode(event)
