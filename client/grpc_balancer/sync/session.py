"""A `grpc_balancer.Channel` in the loop thread, opened by the first who needs it and closed once.

Stubs and calls hold it as the channel does: those whose channel was let go of still work, as grpc's do.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any
from weakref import WeakKeyDictionary

from grpc import StatusCode

from grpc_balancer.channel import Channel
from grpc_balancer.sync import loop
from grpc_balancer.sync.errors import CallError
from grpc_balancer.sync.loop import START_SECONDS, LoopThread
from grpc_balancer.sync.options import Options
from grpc_balancer.sync.rpc import CLOSED, Rpc
from grpc_registry import Resolver
from grpc_registry.url import parse_url

MakeResolver = Callable[[], Resolver | AbstractAsyncContextManager[Resolver]]
"""Makes what resolves, in the loop; it is entered and left there, if it can be."""

_log = logging.getLogger(__name__)


class Method:
    """What a stub asked for, as `grpc_balancer.Channel` is asked for it."""

    def __init__(self, kind: str, *arguments: Any) -> None:
        self.kind = kind
        self.arguments = arguments


class Tenancy:
    """What a session has in the loop, and the loop holds."""

    def __init__(self, thread: LoopThread, channel: Channel, resources: AsyncExitStack) -> None:
        self.thread = thread
        self.channel = channel
        # Weakly, since some programs make stubs by the thousand.
        self._multicallables: WeakKeyDictionary[Method, Any] = WeakKeyDictionary()
        self.live: set[Rpc] = set()
        """The calls that have not ended, lest one wait for a loop that is gone."""
        self._resources = resources
        self._shut = False

    def multicallable(self, method: Method) -> Any:
        """The method of the channel in here. Only in the loop."""
        made = self._multicallables.get(method)
        if made is None:
            made = self._multicallables[method] = getattr(self.channel, method.kind)(*method.arguments)
        return made

    async def shut(self, grace: float | None) -> None:
        """Close the channel, as its `close` does, then the resolver. Idempotent."""
        if self._shut:
            return
        self._shut = True
        self.thread.tenants.discard(self)
        await self.channel.close(grace)
        await self._resources.aclose()

    def end_calls(self) -> None:
        """End the calls that are left. In any thread."""
        for rpc in list(self.live):
            rpc.end(CallError(StatusCode.CANCELLED, CLOSED))

    def evict(self) -> None:
        """End the calls that are left, and give up the loop, which may end by that."""
        self.end_calls()
        loop.release(self.thread)

    async def abandon(self) -> None:
        """Close, with nobody waiting for it."""
        try:
            await self.shut(None)
        finally:
            self.evict()


class Session:
    """Thread-safe."""

    def __init__(self, service: str, registry: str | MakeResolver, options: Options) -> None:
        self.service = service
        self.closed = False
        self._registry = registry
        self._options = options
        self._opening = threading.Lock()
        self._tenancy: Tenancy | None = None

    def open(self) -> Tenancy:
        """What is open, after it was opened if need be.

        Raises:
            ValueError: it is closed.
            RuntimeError: this process is a fork of one that used channels.
        """
        tenancy = self._tenancy
        if tenancy is None:
            tenancy = self._open()
        tenancy.thread.check_usable()
        return tenancy

    def _open(self) -> Tenancy:
        with self._opening:
            if self.closed:
                raise ValueError("Cannot invoke RPC on closed channel!")  # grpc's own words
            if self._tenancy is None:
                thread = loop.acquire()
                try:
                    self._tenancy = thread.run(lambda: self._move_in(thread))
                except BaseException:
                    loop.release(thread)
                    raise
            return self._tenancy

    async def _move_in(self, thread: LoopThread) -> Tenancy:
        async with AsyncExitStack() as stack:
            registry = self._registry
            made: Any = thread.registries.connected(registry) if isinstance(registry, str) else registry()
            if isinstance(made, AbstractAsyncContextManager):
                made = await stack.enter_async_context(made)
            channel = Channel(self.service, made, **self._options)
            # Now, and not with the first call, in whose context it would then live.
            channel.get_state(try_to_connect=True)
            tenancy = Tenancy(thread, channel, stack.pop_all())
            thread.tenants.add(tenancy)
            return tenancy

    def close(self, grace: float | None) -> None:
        """Refuse new calls, give the present ones `grace` seconds, end the rest, close everything. Idempotent.

        Raises:
            RuntimeError: this is the loop's thread, which cannot wait for itself.
        """
        tenancy = self._tenancy
        if tenancy is not None and tenancy.thread.is_of_this_process():
            tenancy.thread.check_usable()
        with self._opening:
            # It is let go of: grpc.aio ends its own thread, which no fork survives, with the last of its channels.
            self.closed, tenancy, self._tenancy = True, self._tenancy, None
        if tenancy is None or not tenancy.thread.is_of_this_process():
            return
        try:
            tenancy.thread.run(lambda: tenancy.shut(grace), timeout=START_SECONDS + (grace or 0.0))
        except (TimeoutError, RuntimeError):
            _log.warning("the channel to %r could not be closed properly", self.service, exc_info=True)
        finally:
            tenancy.evict()

    def __repr__(self) -> str:
        state = "closed" if self.closed else "not in use yet" if self._tenancy is None else "open"
        return f"{self.service!r} {state}"

    def __del__(self) -> None:
        tenancy = self._tenancy
        if tenancy is not None and tenancy.thread.is_of_this_process():
            thread = tenancy.thread
            thread.post(lambda: thread.own(tenancy.abandon()))


_NOT_TRIED = {"interceptors", "metrics"}
"""With the first a channel makes one of grpc.aio's; the second would count a channel that is none."""


class _Unused:
    """Stands for the resolver where nothing is resolved."""

    def watch(self, service: str) -> Any:
        raise NotImplementedError


def try_out(service: str, registry: str | MakeResolver, options: Options) -> None:
    """Raise what making the channel would, without leaving anything behind that a fork would break.

    So a mistake shows where the channel is made, and not at its first call.
    """
    if isinstance(registry, str):
        parse_url(registry)
    elif not callable(registry):
        raise TypeError(f"registry {registry!r}: a URL like etcd://127.0.0.1:2379, or a function that makes a resolver")

    errors: list[BaseException] = []

    async def make() -> None:
        arguments: Any = {name: value for name, value in options.items() if name not in _NOT_TRIED}
        await Channel(service, _Unused(), **arguments).close()

    def run() -> None:  # in a thread, since the caller may have a running loop of its own
        try:
            asyncio.run(make())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="grpc_balancer arguments", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
