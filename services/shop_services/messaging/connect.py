"""From NATS_URL to a bus, and to a compacted log."""

from __future__ import annotations

from shop_services.messaging.bus import Bus
from shop_services.messaging.compacted import CompactedLog
from shop_services.messaging.compacted_memory import MemoryLog, shared_records
from shop_services.messaging.jetstream import JetStreamBus, JetStreamLog
from shop_services.messaging.memory import MemoryBus, shared_broker
from shop_services.runtime.settings import Settings
from shop_services.runtime.tls import client_tls

SERVER = "nats"
"""The name in the servers' certificates."""
_MEMORY = "memory://"


def connect_bus(settings: Settings, *, name: str, identity: str = "") -> Bus:
    """The bus that the settings name, for a process called `name`. To be called in a running event loop.

    `identity` is whose certificate the process shows, if not one of its own name. It connects in the background, so
    this neither waits nor fails (but for a `SettingError` if there is no certificate). All buses of one `memory://NAME`
    in this process share what is published.
    """
    worker = f"{name}/{settings.instance_id}"
    if settings.nats_url.startswith(_MEMORY):
        return MemoryBus(shared_broker(settings.nats_url.removeprefix(_MEMORY)), name=worker)
    tls = client_tls(settings, identity or name, SERVER)
    return JetStreamBus(settings.nats_url, name=worker, replicas=settings.stream_replicas, tls=tls)


def connect_compacted(settings: Settings, log: str, *, name: str) -> CompactedLog:
    """The compacted log of that name (letters, digits, dashes) at the server of the settings, as `connect_bus`."""
    worker = f"{name}/{settings.instance_id}"
    if settings.nats_url.startswith(_MEMORY):
        return MemoryLog(shared_records(f"{settings.nats_url.removeprefix(_MEMORY)}/{log}"))
    tls = client_tls(settings, name, SERVER)
    return JetStreamLog(settings.nats_url, log, name=worker, replicas=settings.stream_replicas, tls=tls)
