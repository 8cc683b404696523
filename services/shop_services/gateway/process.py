"""The life of a gateway's process, which differs from that of the other services in that it speaks HTTP."""

from __future__ import annotations

import os
import resource
import socket

import structlog

from grpc_registry.lifecycle import Phase, serving
from shop_services.gateway.server import HttpServer
from shop_services.gateway.wiring import NAME, wire
from shop_services.runtime import logs
from shop_services.runtime.metrics import serving_metrics
from shop_services.runtime.serve import connect, instance_of
from shop_services.runtime.settings import SettingError, Settings
from shop_services.runtime.tls import server_tls

DEFAULT_PORT = 8080
METADATA = {"protocol": "http"}
"""What tells the gateway from the gRPC services in the registry."""

_BACKLOG = 2048  # uvicorn's
_FILES = 8192  # of which each connection is one; the usual limit of 1,024 is that of programs that use select()

_log = structlog.get_logger(__name__)


async def serve(settings: Settings) -> None:
    """Serve HTTP, registered as an instance of `gateway`, until SIGTERM or SIGINT; then drain.

    The drain is that of every server (`grpc_registry.lifecycle`); `/readyz` answers 503 from its beginning.

    Raises:
        SettingError: the registry's URL or the certificates cannot be used, or nothing can be bound to the address or
            for the metrics.
    """
    logs.configure(NAME, settings.instance_id, settings.log_level)
    _allow_files()
    with listen(settings) as listener:
        instance = instance_of(NAME, settings, listener.getsockname()[1], METADATA)
        async with (
            connect(settings, NAME) as registry,
            wire(settings, registry) as gateway,
            serving_metrics(settings, gateway.collectors, tls=server_tls(settings, NAME, require_client_cert=True)),
            serving(
                # Whoever comes by the front door has no certificate of the shop's.
                HttpServer(
                    gateway.app,
                    listener,
                    tls=server_tls(settings, NAME, require_client_cert=False),
                    stopping=gateway.end_streams,
                ),
                registry,
                instance,
                propagation_delay=settings.propagation,
                grace=settings.grace,
            ) as lifecycle,
        ):
            gateway.probes.drain_when(lambda: lifecycle.phase is not Phase.SERVING)
            _log.info("listening", address=instance.address)
            await lifecycle.wait()
    _log.info("stopped")


def _allow_files() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listen(settings: Settings) -> socket.socket:
    """A socket that listens where the settings say. Raises `SettingError`."""
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        return socket.create_server((settings.host, settings.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise SettingError("SHOP_PORT", f"cannot bind {settings.bind}: {why}") from error
