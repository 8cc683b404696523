"""What `Channel` is compared with: C-core's own round_robin, over the same addresses."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import grpc.aio

from benchmarks.server import Port, Stub

_ROUND_ROBIN = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})


def core_channel(ports: Sequence[Port]) -> grpc.aio.Channel:
    """A grpc.aio channel with round_robin over `ports`, all else as grpc has it.

    It shares no connection with another one, as if that were in another process: gRPC would else share them.
    """
    target = "ipv4:" + ",".join(port.address for port in ports)
    options = [("grpc.service_config", _ROUND_ROBIN), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.insecure_channel(target, options)


async def connected(channel: grpc.aio.Channel, ports: Sequence[Port], *, seconds: float = 30) -> None:
    """Return once every one of `ports` has answered a call.

    Raises:
        TimeoutError: they did not in time.
    """
    stub = Stub(channel)
    missing = {port.name for port in ports}
    async with asyncio.timeout(seconds):
        while missing:
            answers = await asyncio.gather(*(stub.name(b"", wait_for_ready=True) for _ in ports))
            missing -= {answer.decode() for answer in answers}
