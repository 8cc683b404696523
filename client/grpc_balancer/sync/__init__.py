"""The channel for blocking stubs: `grpc_balancer.sync.Channel` is a `grpc.Channel`, for Django, Flask or Celery."""

from grpc_balancer.sync.channel import Channel
from grpc_balancer.sync.errors import CallError
from grpc_balancer.sync.loop import in_loop
from grpc_balancer.sync.options import Options

__all__ = ["CallError", "Channel", "Options", "in_loop"]
