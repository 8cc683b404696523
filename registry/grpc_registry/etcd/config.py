"""Service configs in etcd: one key a service, without a lease, its value the JSON text as it was given."""

from __future__ import annotations

from collections.abc import Sequence

from grpc_registry.config import ConfigSnapshot
from grpc_registry.etcd import kv
from grpc_registry.etcd.connection import Connection
from grpc_registry.etcd.kv import KeyValue
from grpc_registry.etcd.watch import Event


class ConfigReader:
    """Reads the key of a service's config."""

    def listed(self, service: str, revision: int, found: Sequence[KeyValue]) -> ConfigSnapshot:
        """The config at `revision`, from all that was found at its key."""
        return ConfigSnapshot(service, revision, as_text(found[0].value) if found else None)

    def folded(self, known: ConfigSnapshot, events: Sequence[Event]) -> ConfigSnapshot:
        """The config after `events`, of which there is at least one; only the last one counts."""
        last = events[-1]
        text = as_text(last.value) if isinstance(last, KeyValue) else None
        return ConfigSnapshot(known.service, last.mod_revision, text, stale=known.stale)


def as_text(value: bytes) -> str:
    """The text of a config. What is not UTF-8 becomes a text that is certainly no JSON, so that nobody obeys it.

    To replace the wrong bytes alone would not do: inside a JSON string they would go unnoticed.
    """
    try:
        return value.decode()
    except UnicodeDecodeError:
        return "\N{REPLACEMENT CHARACTER}" + value.decode(errors="replace")


async def get_config(connection: Connection, key: bytes) -> str | None:
    """What is at `key`, if anything is."""
    _, found = await kv.get(connection, key)
    return None if found is None else as_text(found.value)
