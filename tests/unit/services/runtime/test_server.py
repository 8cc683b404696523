"""Every server speaks health and reflection, and closes its port to others."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from structlog.testing import capture_logs

from shop.user.v1 import user_pb2, user_pb2_grpc
from shop_services.runtime.app import MAX_REQUEST, App
from shop_services.runtime.errors import NotFound
from shop_services.runtime.server import OPTIONS, make_server
from shop_services.runtime.testing import running
from tests.unit.services.runtime.probe import Context, failure

NAME = "shop.user.v1.UserService"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Servicer(user_pb2_grpc.UserServiceServicer):
    """Knows nobody."""

    async def GetUser(self, request: user_pb2.GetUserRequest, context: Context) -> user_pb2.GetUserResponse:
        raise NotFound("user", request.user_id)


SERVICER = Servicer()  # type: ignore[abstract]  # the other methods stay as they were generated
APP = App("user", {NAME: partial(user_pb2_grpc.add_UserServiceServicer_to_server, SERVICER)})


async def test_health_is_reported_for_the_server_and_each_service() -> None:
    """The empty name and the full name are SERVING; an unknown one is NOT_FOUND; no check is logged."""
    with capture_logs() as entries:
        async with running(APP) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            for name in ("", NAME):
                assert (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status == SERVING
            error = await failure(stub.Check(health_pb2.HealthCheckRequest(service="nobody")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert [entry for entry in entries if entry["event"] == "rpc"] == []


async def test_a_drain_turns_health_and_drains_the_app() -> None:
    """What `grpc_registry.serving` calls when it drains reaches both."""
    drained: list[bool] = []

    async def drain() -> None:
        drained.append(True)

    server = make_server(App("user", APP.services, drain))
    port = server.grpc.add_insecure_port("127.0.0.1:0")
    await server.grpc.start()
    await server.report(serving=True)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        await server.enter_graceful_shutdown()
        for name in ("", NAME):
            assert (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status == NOT_SERVING
    await server.grpc.stop(None)
    assert drained == [True]


async def test_reflection_lists_all_services() -> None:
    """grpcurl needs no proto files."""
    async with running(APP) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]  # or an aio one
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]
    assert {service.name for service in answer.list_services_response.service} == {
        *(NAME, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"),
    }


async def test_requests_pass_all_interceptors() -> None:
    """A broken request is refused before the servicer, an error of the servicer's has its status."""
    async with running(APP) as channel:
        stub = user_pb2_grpc.UserServiceStub(channel)
        broken = await failure(stub.GetUser(user_pb2.GetUserRequest()))
        missing = await failure(stub.GetUser(user_pb2.GetUserRequest(user_id="u")))
        unserved = await failure(stub.ListUsers(user_pb2.ListUsersRequest()))
    assert broken.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert missing.code() is grpc.StatusCode.NOT_FOUND
    assert "x-request-id" in dict(missing.trailing_metadata())
    assert unserved.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(("app", "most"), [(APP, MAX_REQUEST), (replace(APP, max_request=1000), 1000)])
async def test_a_request_has_no_more_bytes_than_the_app_takes(app: App, most: int) -> None:
    """One that is too large is refused before anything is made of it, and far too large ones before they are here."""
    async with running(app) as channel:
        call = channel.unary_unary(f"/{NAME}/GetUser", bytes, StringValue.FromString)
        taken, larger, far_larger = [await failure(call(size)) for size in (most, most + 1, 4 * 1024 * 1024 + 1)]
    assert taken.details() == "the request is no message of the RPC's type"  # zeros are none
    assert (larger.code(), larger.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        f"the request is larger than {most:,} bytes",
    )
    assert far_larger.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_port_is_bound_by_one_server() -> None:
    """A second server on the same port is refused, even one that wants to share it: SO_REUSEPORT is off."""
    first = make_server(APP)
    port = first.grpc.add_insecure_port("127.0.0.1:0")
    await first.grpc.start()
    second = make_server(APP)
    sharing = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
    for other in (second.grpc, sharing):
        with pytest.raises(RuntimeError, match="bind"):
            other.add_insecure_port(f"127.0.0.1:{port}")
    assert dict(OPTIONS)["grpc.so_reuseport"] == 0
    await first.grpc.stop(None)
    await second.grpc.stop(None)
    await sharing.stop(None)
