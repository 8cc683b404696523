"""What a service's `wiring.py` makes, and what `serve` and the tests run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

import grpc
from prometheus_client.registry import Collector

from grpc_registry import Registration, Registry
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.settings import Settings

MAX_REQUEST = 128 * 1024
"""Twice what the largest request of most services has: an account with its profile."""


async def _nothing() -> None:
    return


def _ignore(registration: Registration) -> None:
    return


@dataclass(frozen=True, slots=True)
class App:
    """A service put together: its name in the registry and the gRPC services that it speaks.

    `services` maps the full name of each ("shop.user.v1.UserService") to what adds its servicer to a server; generated
    code has that as `add_…Servicer_to_server`, bound to the servicer by `functools.partial`.

    `drain` is awaited when the server drains, once clients know: it ends the calls that would go on for ever, which the
    server would else wait for. It may be called more than once.

    `collectors` are asked for its metrics, in the event loop's thread, whenever somebody looks at them.

    `registering` is told of the server's registration when that begins.

    `authority` knows who calls; without one nobody is known, and only what anyone may call can be called.

    `max_request` is how many bytes a request may have. It is not for the network's sake: two bytes can be a message in
    a message, which takes a hundred in memory, and microseconds to look at.
    """

    name: str
    services: Mapping[str, Callable[[grpc.aio.Server], None]]
    drain: Callable[[], Awaitable[None]] = _nothing
    collectors: Sequence[Collector] = ()
    registering: Callable[[Registration], object] = _ignore
    authority: Authority | None = None
    max_request: int = MAX_REQUEST


class StartError(Exception):
    """A service cannot start, and starting it again would not help. The message is for the operator, in one line."""


Wiring = Callable[[Settings, Registry], AbstractAsyncContextManager[App]]
"""A service's `wire(settings, registry)`: entering it opens what the app needs, leaving closes it in reverse order."""
