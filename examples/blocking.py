"""The channel for blocking stubs, as in Django, Flask or Celery: `grpc_balancer.sync.Channel` is a `grpc.Channel`.

Without an argument it calls two servers that it starts itself. With the URL of a registry it calls what is registered
there as `demo`, like the server in registry/README.md; what is registered in `memory://` is in this process alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from grpc_balancer import sync
from grpc_balancer.testing import ManualResolver
from grpc_registry import Instance, Snapshot

REQUEST = health_pb2.HealthCheckRequest()


@contextmanager
def served() -> Iterator[str]:
    """The address of a blocking server."""
    server = grpc.server(ThreadPoolExecutor(4))
    health_pb2_grpc.add_HealthServicer_to_server(HealthServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(1).wait()


def main(url: str = "") -> None:
    with ExitStack() as servers:
        addresses = [] if url else [servers.enter_context(served()) for _ in range(2)]

        def fixed() -> ManualResolver:
            """A resolver without a registry. It is made in the channel's own event loop, so a function makes it."""
            resolver = ManualResolver()
            resolver.push(Snapshot("demo", 1, tuple(Instance("demo", address) for address in addresses)))
            return resolver

        # It may be made at import: it connects with its first use, so a process may fork until then, but not after.
        with sync.Channel("demo", url or fixed, policy="round_robin") as channel:
            try:
                grpc.channel_ready_future(channel).result(timeout=5)
            except grpc.FutureTimeoutError:
                sys.exit(f"No instance of `demo` is connected after 5 s. Is a server registered at {url}?")
            stub: Any = health_pb2_grpc.HealthStub(channel)
            with ThreadPoolExecutor(8) as threads:
                answers = list(threads.map(lambda _: stub.Check(REQUEST, timeout=5).status, range(100)))
            print(f"{answers.count(health_pb2.HealthCheckResponse.SERVING)} of 100 calls from 8 threads answered")
            print(channel.explain())


main(*sys.argv[1:])
