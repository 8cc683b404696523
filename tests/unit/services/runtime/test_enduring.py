"""What any peer can send to a server, which must be answered: bytes that are no message, methods that are none."""

from __future__ import annotations

from functools import partial
from typing import Any

import grpc
import pytest

from shop.user.v1 import user_pb2_grpc
from shop_services.runtime.app import App
from shop_services.runtime.testing import running

SERVICE = "shop.user.v1.UserService"
NOBODY: Any = user_pb2_grpc.UserServiceServicer  # its methods are never called
ADD = partial(user_pb2_grpc.add_UserServiceServicer_to_server, NOBODY)


async def call(channel: grpc.aio.Channel, method: str, data: bytes) -> grpc.aio.AioRpcError:
    """How a call with these bytes fails."""
    begin: Any = channel.unary_unary(method)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await begin(data, timeout=20)
    return error.value


@pytest.mark.parametrize("method", [f"/{SERVICE}/GetUser", "/grpc.health.v1.Health/Check"])
async def test_bytes_that_are_no_message_are_the_callers_fault(method: str) -> None:
    """A request that cannot be read is INVALID_ARGUMENT, for our own RPCs and for gRPC's."""
    async with running(App("user", {SERVICE: ADD})) as channel:
        error = await call(channel, method, b"\xff")
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == "the request is no message of the RPC's type"


@pytest.mark.parametrize("method", ["/no.Such/Method", f"/{SERVICE}/Nothing", "/é", "/"])
async def test_a_method_that_is_none_is_unimplemented(method: str) -> None:
    """It is answered at once, as often as it is asked for, whatever it is called."""
    async with running(App("user", {SERVICE: ADD})) as channel:
        for _ in range(3):
            assert (await call(channel, method, b"")).code() is grpc.StatusCode.UNIMPLEMENTED
