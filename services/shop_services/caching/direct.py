"""A call to one instance of a service in particular, whoever else there is."""

from __future__ import annotations

import grpc.aio

from grpc_balancer.options import with_defaults
from grpc_registry import Instance, TlsFiles


def direct_channel(instance: Instance, tls: TlsFiles | None = None) -> grpc.aio.Channel:
    """A channel to `instance` alone, for a few calls; close it. It is connected by its first call.

    Raises:
        InvalidTls: the files of `tls` cannot be used.
    """
    options = list(with_defaults([("grpc.enable_retries", 0)]))
    if tls is None:
        return grpc.aio.insecure_channel(instance.address, options=options)
    options += tls.channel_options()
    return grpc.aio.secure_channel(instance.address, tls.channel_credentials(), options=options)
