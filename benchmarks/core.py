"""What our channels are compared with: C-core's own round_robin, over the same addresses."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence

import grpc
import grpc.aio

from benchmarks.server import BlockingStub, Port, Stub

# It shares no connection with another channel, as if that were in another process: gRPC would else share them.
_OPTIONS = (
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ("grpc.use_local_subchannel_pool", 1),
)


def core_channel(ports: Sequence[Port]) -> grpc.aio.Channel:
    """A grpc.aio channel with round_robin over `ports`, all else as gRPC has it."""
    return grpc.aio.insecure_channel(_target(ports), _OPTIONS)


def blocking_core_channel(ports: Sequence[Port]) -> grpc.Channel:
    """The same as a blocking channel."""
    return grpc.insecure_channel(_target(ports), _OPTIONS)


def _target(ports: Sequence[Port]) -> str:
    return "ipv4:" + ",".join(port.address for port in ports)


async def connected(channel: grpc.aio.Channel, ports: Sequence[Port], *, seconds: float = 30) -> None:
    """Return once every one of `ports` has answered a call. Raises `TimeoutError` if they do not in time."""
    stub = Stub(channel)
    missing = {port.name for port in ports}
    async with asyncio.timeout(seconds):
        while missing:
            answers = await asyncio.gather(*(stub.name(b"", wait_for_ready=True) for _ in ports))
            missing -= {answer.decode() for answer in answers}


def blocking_connected(channel: grpc.Channel, ports: Sequence[Port], *, seconds: float = 30) -> None:
    """The same for a blocking channel."""
    stub = BlockingStub(channel)
    missing = {port.name for port in ports}
    deadline = time.monotonic() + seconds
    while missing:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no answer from {sorted(missing)} in {seconds:g} s")
        missing.discard(stub.name(b"", wait_for_ready=True, timeout=seconds).decode())
