"""A call to one instance of a service in particular, whoever else there is."""

from __future__ import annotations

import grpc.aio

from grpc_balancer.options import with_defaults
from grpc_registry import Instance


def direct_channel(instance: Instance) -> grpc.aio.Channel:
    """A channel to `instance` alone, for a few calls; close it. It is connected by its first call."""
    return grpc.aio.insecure_channel(instance.address, options=list(with_defaults([("grpc.enable_retries", 0)])))
