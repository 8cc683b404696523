"""The life of a service's process: settings → registry → app → server bound → serving, until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping
from contextlib import closing
from typing import Any

import structlog

import grpc_registry
from grpc_registry import Instance, InvalidUrl, Registry, ServerEnded
from grpc_registry.lifecycle import serving
from shop_services.runtime import collecting, logs
from shop_services.runtime.app import StartError, Wiring
from shop_services.runtime.errors import Unavailable
from shop_services.runtime.metrics import serving_metrics
from shop_services.runtime.server import Server, make_server
from shop_services.runtime.settings import SettingError, Settings
from shop_services.runtime.tls import registry_url, server_credentials, server_tls

REFUSED = 2
"""The exit status of a process that cannot run as it was told to: to start it again would not help."""
FAILED = 1
"""The exit status of a process that could not start because something it needs is away, or that lost its server: the
next start may succeed."""

_log = structlog.get_logger(__name__)


def run(name: str, wire: Wiring, *, identity: str = "") -> int:
    """Run the service `name` with the settings of the environment until SIGTERM or SIGINT; returns the exit status.

    `identity` is whose keys and certificate it has, if not those of its own name. A reason not to start is printed to
    stderr in one line.
    """
    return run_process(name, lambda settings: serve(name, wire, settings, identity=identity))


def run_process(
    name: str,
    process: Callable[[Settings], Coroutine[Any, Any, None]],
    *,
    port: int = 0,
    new_loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """Run `process` to its end with the settings of the environment. Returns the exit status.

    `port` is its default. `new_loop` makes the event loop that it runs in; None: asyncio's own.
    """
    collecting.settle()
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(process(Settings.from_environment(port=port)))
    except (SettingError, StartError) as error:
        return _refuse(name, error, REFUSED)
    except (Unavailable, ServerEnded) as error:
        return _refuse(name, error, FAILED)
    return 0


async def serve(name: str, wire: Wiring, settings: Settings, *, identity: str = "") -> None:
    """Serve what `wire` makes, registered as an instance of `name`, until SIGTERM or SIGINT; then drain.

    `identity` is as in `run`. The address is logged as `listening` before it is registered.

    Raises:
        SettingError: the registry's URL or the certificates cannot be used, or nothing can be bound to the address or
            for the metrics.
        StartError: `wire` refused.
        Unavailable: something that `wire` needs is away.
        ServerEnded: the gRPC server takes no calls any more, and nobody told it to stop.
    """
    logs.configure(name, settings.instance_id, settings.log_level)
    identity = identity or name
    async with connect(settings, identity) as registry, wire(settings, registry) as app:
        server = make_server(app)
        metrics_tls = server_tls(settings, identity, require_client_cert=True)
        with closing(server.concurrency):
            async with serving_metrics(settings, server.collectors, tls=metrics_tls):
                port = _bind(server, settings, identity)
                instance = instance_of(app.name, settings, port)
                await server.report(serving=True)
                async with serving(
                    server.grpc,
                    registry,
                    instance,
                    health=server,
                    propagation_delay=settings.propagation,
                    grace=settings.grace,
                ) as lifecycle:
                    for registration in lifecycle.registrations:  # none if it is to end already
                        app.registering(registration)
                    _log.info("listening", address=instance.address)
                    await lifecycle.wait()
    _log.info("stopped")


def _bind(server: Server, settings: Settings, identity: str) -> int:
    """Bind the address of the settings and return the port. Raises `SettingError`."""
    credentials = server_credentials(settings, identity)
    try:
        if credentials is None:
            return server.grpc.add_insecure_port(settings.bind)
        return server.grpc.add_secure_port(settings.bind, credentials)
    except RuntimeError:
        raise SettingError("SHOP_PORT", f"cannot bind {settings.bind}: in use, or not an address of ours") from None


def connect(settings: Settings, identity: str) -> Registry:
    """The registry that the settings name, for who has the certificate of `identity`. Raises `SettingError`."""
    try:
        return grpc_registry.connect(registry_url(settings, identity), ttl=settings.lease_ttl)
    except InvalidUrl as error:
        raise SettingError("REGISTRY_URL", str(error)) from error


def instance_of(name: str, settings: Settings, port: int, metadata: Mapping[str, Any] | None = None) -> Instance:
    """What a process that serves on `port` is registered as."""
    return Instance(
        name,
        settings.address(port),
        id=settings.instance_id,
        weight=settings.weight,
        zone=settings.zone,
        version=settings.version,
        host=socket.gethostname(),
        metadata=metadata or {},
    )


def _refuse(name: str, error: Exception, status: int) -> int:
    sys.stderr.write(f"{name}: {error}\n")
    return status
