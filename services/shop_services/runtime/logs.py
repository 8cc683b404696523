"""Logs are JSON, one object a line, on stderr; those of libraries too, so that one reader understands all of it."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from shop_services.runtime.context import current

REDACTED = "[redacted]"

_SECRETS = ("password", "authorization", "cookie", "secret", "token", "api_key", "private_key")
_HARMLESS = ("page_token", "next_page_token")
_FIELDS = ("time", "level", "event", "service", "instance", "request_id", "method")


def configure(service: str, instance: str, level: str = "info", stream: TextIO | None = None) -> None:
    """Send all logs of this process, ours and those of `logging`, to `stream` (stderr), from `level` on.

    Every line has time (UTC, ISO 8601), level, event, service and instance, and, where a call is being served, its
    request_id and method. Values under names like password or authorization are replaced, at every depth.
    """
    output = stream or sys.stderr
    process: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _Origin(service, instance),
        structlog.processors.format_exc_info,
        redact,
        _in_order,
    ]
    render = structlog.processors.JSONRenderer(default=repr)
    # Written directly: on its way through `logging`, a line costs three times as much.
    structlog.configure(
        processors=[*process, render],
        logger_factory=structlog.WriteLoggerFactory(output),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *process],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
    )
    handler = logging.StreamHandler(output)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("alembic", "sqlalchemy", "aiosqlite", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def redact(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that replaces the values of names which suggest a secret."""
    for key, value in event.items():
        event[key] = _redacted(key, value)
    return event


def _redacted(key: object, value: Any) -> Any:
    if isinstance(key, str) and key not in _HARMLESS and any(word in key.lower() for word in _SECRETS):
        return REDACTED
    if isinstance(value, dict):
        return {name: _redacted(name, item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted_item(item) for item in value]
    return value


def _redacted_item(item: Any) -> Any:
    if isinstance(item, tuple) and len(item) == 2:  # metadata is a sequence of pairs of a name and a value
        return item[0], _redacted(item[0], item[1])
    return _redacted("", item)


class _Origin:
    def __init__(self, service: str, instance: str) -> None:
        self._service, self._instance = service, instance

    def __call__(self, _logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"], event["instance"] = self._service, self._instance
        if (serving := current()) is not None:
            event.setdefault("request_id", serving.request_id)
            event.setdefault("method", serving.method)
        return event


def _in_order(_logger: object, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    first = {name: event[name] for name in _FIELDS if name in event}
    return {**first, **{name: value for name, value in event.items() if name not in first}}
