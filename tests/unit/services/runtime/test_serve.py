"""A service's process: registered while it serves, drained when told to, and clear about why it cannot start."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from io import StringIO

import grpc
import pytest

import grpc_registry
from grpc_registry import Instance, Registration, Registry, ServerEnded, Snapshot
from shop.user.v1 import user_pb2, user_pb2_grpc
from shop_services.runtime import collecting
from shop_services.runtime import serve as serving
from shop_services.runtime.app import App, StartError
from shop_services.runtime.errors import Unavailable
from shop_services.runtime.serve import run, serve
from shop_services.runtime.settings import SettingError, Settings
from tests.unit.services.runtime.probe import failure
from tests.unit.services.runtime.test_server import APP


@asynccontextmanager
async def wire(settings: Settings, registry: Registry) -> AsyncIterator[App]:
    """The app of test_server."""
    yield APP


def _settings(**fields: object) -> Settings:
    url = f"memory://{secrets.token_hex(4)}"
    return Settings(**{"registry_url": url, "propagation": 0.0, "grace": 2.0, **fields})  # type: ignore[arg-type]


async def _registered(registry: Registry, count: int) -> tuple[Instance, ...]:
    async with asyncio.timeout(30):
        watch = registry.watch("user")
        async for known in watch:
            if isinstance(known, Snapshot) and len(known.instances) == count:
                await watch.aclose()
                return known.instances
    raise AssertionError


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_service_is_registered_until_it_is_told_to_stop(number: signal.Signals, log: StringIO) -> None:
    """Its instance answers at the registered address; after SIGTERM or SIGINT it is gone, and `serve` returns."""
    settings = _settings(weight=7, zone="z", version="1.2")
    async with grpc_registry.connect(settings.registry_url) as registry:
        process = asyncio.create_task(serve("user", wire, settings))
        (instance,) = await _registered(registry, 1)
        assert (instance.weight, instance.zone, instance.version) == (7, "z", "1.2")
        assert instance.id == settings.instance_id
        async with grpc.aio.insecure_channel(instance.address) as channel:
            error = await failure(user_pb2_grpc.UserServiceStub(channel).GetUser(user_pb2.GetUserRequest(user_id="u")))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
        os.kill(os.getpid(), number)
        await _registered(registry, 0)
        async with asyncio.timeout(30):
            await process


async def test_an_app_is_told_of_its_registration(log: StringIO) -> None:
    """So that it can know whether it is registered, whatever the registry's watch was last heard to say."""
    told: list[Registration] = []

    @asynccontextmanager
    async def listening(settings: Settings, registry: Registry) -> AsyncIterator[App]:
        yield replace(APP, registering=told.append)

    settings = _settings()
    async with grpc_registry.connect(settings.registry_url) as registry:
        process = asyncio.create_task(serve("user", listening, settings))
        (instance,) = await _registered(registry, 1)
        assert [(each.instance.id, each.registered) for each in told] == [(instance.id, True)]
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(30):
            await process


async def test_the_address_is_logged(capsys: pytest.CaptureFixture[str], log: StringIO) -> None:
    """`listening` carries the address, and every line the instance's id."""
    settings = _settings()
    async with grpc_registry.connect(settings.registry_url) as registry:
        process = asyncio.create_task(serve("user", wire, settings))
        (instance,) = await _registered(registry, 1)
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(30):
            await process
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["address"] for line in lines if line["event"] == "listening"] == [instance.address]
    assert {line["instance"] for line in lines} == {instance.id}
    assert lines[-1]["event"] == "stopped"


async def test_a_taken_port_is_refused_by_name(log: StringIO) -> None:
    """Two servers do not share a port; the message names the variable."""
    listener = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener:
        with pytest.raises(SettingError, match=f"^SHOP_PORT: cannot bind 127.0.0.1:{port}"):
            await serve("user", wire, _settings(port=port))


async def test_a_url_that_the_registry_refuses_is_a_wrong_setting(log: StringIO) -> None:
    """What only the registry can judge is refused with the variable's name as well."""
    with pytest.raises(SettingError, match=r"^REGISTRY_URL: "):
        await serve("user", wire, _settings(registry_url="etcd://"))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (SettingError("SHOP_WEIGHT", "must be positive"), serving.REFUSED),
        (StartError("the tables are newer"), serving.REFUSED),
        (Unavailable("the database is not available"), serving.FAILED),
        (ServerEnded("the server ended by itself"), serving.FAILED),
    ],
)
def test_a_reason_not_to_start_is_one_line_and_a_status(
    error: Exception, status: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, log: StringIO
) -> None:
    """No traceback: the service's name and the message, and a status that says whether another start may help."""

    @asynccontextmanager
    async def refusing(settings: Settings, registry: Registry) -> AsyncIterator[App]:
        raise error
        yield APP

    monkeypatch.setattr(collecting, "settle", lambda: None)  # which is for whole processes
    monkeypatch.setenv("REGISTRY_URL", "memory://refused")
    assert run("user", refusing) == status
    assert capsys.readouterr().err == f"user: {error}\n"
