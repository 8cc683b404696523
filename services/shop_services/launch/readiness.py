"""When a program is ready: servers and gateways answer, an instance says SERVING and is registered where it serves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Self

import grpc.aio
from grpc_health.v1 import health_pb2

from grpc_registry import Directory, RegistryRefused, RegistryUnavailable
from shop_services.launch.commands import identity_of
from shop_services.launch.embedded import ETCD, MAIL, NATS
from shop_services.launch.errors import LaunchError, NotReady
from shop_services.launch.logs import tail
from shop_services.launch.plan import GATEWAY
from shop_services.launch.probes import greeting, http_get
from shop_services.launch.program import Part
from shop_services.runtime.settings import Settings
from shop_services.runtime.tls import OPERATOR, client_tls, tls_files

_INTERVAL = 0.1
_TIMEOUT = 1.0

# While a process is still importing, its port refuses connections; by default gRPC would try again only after seconds.
# The least backoff is left at gRPC's 20 s. It delays no try, but is the time that each is given to come about: on a
# machine that is busy, as with a whole shop that starts, a handshake may well take more than 100 ms.
_RECONNECT = [(f"grpc.{which}_reconnect_backoff_ms", 100) for which in ("initial", "max")]


async def wait_ready(parts: Iterable[Part], is_ready: Callable[[Part], Awaitable[bool]], *, seconds: float) -> None:
    """Return when `is_ready` has said so of each of `parts`.

    Raises:
        NotReady: some are not after so many seconds; the message names them, with the end of the first one's log.
    """
    waiting = list(parts)
    try:
        async with asyncio.timeout(seconds):
            while waiting:
                answers = await asyncio.gather(*(is_ready(part) for part in waiting))
                waiting = [part for part, ready in zip(waiting, answers, strict=True) if not ready]
                await asyncio.sleep(_INTERVAL if waiting else 0)
    except TimeoutError:
        raise NotReady(_complaint(waiting, seconds)) from None


async def answers(part: Part, settings: Settings) -> bool:
    """Whether an etcd or a gateway says over HTTP that it is ready, or NATS or the mail server when it greets."""
    tls = client_tls(settings, OPERATOR, part.service)
    if part.service == NATS:
        return b'"jetstream":true' in await greeting(part.address, tls)
    if part.service == MAIL:
        return (await greeting(part.address, tls)).startswith(b"220 ")
    path = {ETCD: "/health", GATEWAY: "/readyz"}[part.service]
    return (await http_get(part.address, path, tls))[0] == 200


class Instances:
    """Asks gRPC servers for their health and the registry for their addresses; keeps connections until it is left."""

    def __init__(self, registry: Directory, settings: Settings) -> None:
        self._registry = registry
        self._settings = settings
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def serve(self, part: Part) -> bool:
        """Whether the instance says SERVING, and is registered at its address.

        Raises:
            LaunchError: the registry does not let us look.
        """
        return await self._healthy(part) and await self._registered(part)

    async def _healthy(self, part: Part) -> bool:
        if part.address not in self._channels:
            self._channels[part.address] = part_channel(part, self._settings)
        check = self._channels[part.address].unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = await check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def _registered(self, part: Part) -> bool:
        try:
            listings = await self._registry.list(part.service)
        except RegistryUnavailable:
            return False
        except RegistryRefused as error:
            raise LaunchError(f"REGISTRY_URL: {error}") from error
        return any(listing.instance.address == part.address for listing in listings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for channel in self._channels.values():
            await channel.close()


def part_channel(part: Part, settings: Settings) -> grpc.aio.Channel:
    """A channel to one instance, as the operator has it. Raises `SettingError`."""
    tls = tls_files(settings, OPERATOR, identity_of(part.service))
    if tls is None:
        return grpc.aio.insecure_channel(part.address, options=_RECONNECT)
    options = [*_RECONNECT, *tls.channel_options()]
    return grpc.aio.secure_channel(part.address, tls.channel_credentials(), options=options)


def _complaint(waiting: list[Part], seconds: float) -> str:
    names = ", ".join(part.program.name for part in waiting)
    log = waiting[0].program.log
    message = f"not ready after {seconds:.0f} s: {names}"
    return message if log is None else f"{message}\nthe end of {log}:\n{tail(log)}"
