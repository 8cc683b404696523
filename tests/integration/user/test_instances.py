"""User instances as processes of their own: they start together, answer together, and stop when told to."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

import grpc_registry
from shop.user.v1 import user_pb2 as pb
from shop.user.v1.user_pb2_grpc import UserServiceStub
from shop_services.runtime.operator import operator_credentials
from shop_services.runtime.outgoing import OutgoingChannel
from shop_services.runtime.settings import Settings
from tests.servers import Etcd
from tests.watching import until

SECONDS = 120


@dataclass
class Process:
    """A running `python -m shop_services.user`, and the lines that it logged."""

    child: asyncio.subprocess.Process
    log: list[dict[str, Any]] = field(default_factory=list)

    async def read(self) -> None:
        """Collect its log to the end."""
        assert self.child.stderr is not None
        async for line in self.child.stderr:
            self.log.append(json.loads(line))


@asynccontextmanager
async def _processes(count: int, environment: Mapping[str, str]) -> AsyncIterator[list[Process]]:
    command = (sys.executable, "-m", "shop_services.user")
    variables = {**os.environ, **environment}
    started = [
        await asyncio.create_subprocess_exec(*command, env=variables, stderr=asyncio.subprocess.PIPE)
        for _ in range(count)
    ]
    processes = [Process(child) for child in started]
    readers = [asyncio.create_task(process.read()) for process in processes]
    try:
        yield processes
    finally:
        for process in processes:
            if process.child.returncode is None:
                process.child.kill()
            await process.child.wait()
        await asyncio.gather(*readers)


@pytest.fixture
def environment(database_url: str, shared_etcd: Etcd, tmp_path: Path) -> dict[str, str]:
    """One database, one place in the registry, and one directory of keys."""
    return {
        "SHOP_DATA": str(tmp_path),
        "DATABASE_URL": database_url,
        "REGISTRY_URL": f"{shared_etcd.url}/{secrets.token_hex(4)}",
        "SHOP_PROPAGATION": "0.1",
    }


async def test_instances_that_start_together_share_an_empty_database(environment: dict[str, str]) -> None:
    """Three processes migrate at once, all serve, and of one account made through all of them there is one."""
    async with (
        asyncio.timeout(SECONDS),
        _processes(3, environment) as processes,
        grpc_registry.connect(environment["REGISTRY_URL"]) as registry,
    ):
        watch = registry.watch("user")
        snapshot = await until(watch, lambda snapshot: len(snapshot.instances) == 3, seconds=SECONDS)
        async with AsyncExitStack() as stack:
            channels = [grpc.aio.insecure_channel(instance.address) for instance in snapshot.instances]
            credentials = operator_credentials(Settings(data=Path(environment["SHOP_DATA"])))
            called = [OutgoingChannel(channel, credentials=credentials) for channel in channels]
            users = [UserServiceStub(await stack.enter_async_context(channel)) for channel in called]
            request = pb.CreateUserRequest(request_id="r1", email="a@b.cd", username="ann", password="correct horse")
            replies = await asyncio.gather(*(stub.CreateUser(request, timeout=SECONDS) for stub in users * 2))
            assert len({reply.user.id for reply in replies}) == 1
            listed = await asyncio.gather(*(stub.ListUsers(pb.ListUsersRequest(), timeout=SECONDS) for stub in users))
            assert [list(answer.users) for answer in listed] == [[replies[0].user]] * 3

        for process in processes:
            process.child.terminate()
        await until(watch, lambda snapshot: not snapshot.instances, seconds=SECONDS)
        await watch.aclose()
        assert [await process.child.wait() for process in processes] == [0, 0, 0]

    served = [[line for line in process.log if line["event"] == "rpc"] for process in processes]
    assert [len(lines) for lines in served] == [3, 3, 3]
    assert {line["code"] for lines in served for line in lines} == {"OK"}
    assert all(process.log[-1]["event"] == "stopped" for process in processes)
    assert "correct horse" not in str([process.log for process in processes])


@pytest.mark.parametrize("variables", [{"SHOP_WEIGHT": "heavy"}, {"DATABASE_URL": "postgresql://u:swordfish@h:p/x"}])
async def test_a_wrong_setting_is_one_line_and_status_2(variables: dict[str, str], tmp_path: Path) -> None:
    """The variable is named, the password is not shown, and there is no traceback."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "shop_services.user"),
        env={**os.environ, "REGISTRY_URL": "memory://", "SHOP_DATA": str(tmp_path), **variables},
        stderr=asyncio.subprocess.PIPE,
    )
    _, stderr = await asyncio.wait_for(child.communicate(), SECONDS)
    (line,) = stderr.decode().splitlines()
    assert child.returncode == 2
    assert line.startswith(f"user: {next(iter(variables))}: ")
    assert "swordfish" not in line


async def test_a_missing_database_is_one_reason_and_status_1(tmp_path: Path) -> None:
    """It may be there at the next start, so the status differs from that of a wrong setting."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "shop_services.user"),
        env={
            **os.environ,
            "REGISTRY_URL": "memory://",
            "DATABASE_URL": "postgresql://shop@127.0.0.1:1/x",
            "SHOP_DATA": str(tmp_path),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    _, stderr = await asyncio.wait_for(child.communicate(), SECONDS)
    *logged, last = stderr.decode().splitlines()
    assert child.returncode == 1
    assert last == "user: DATABASE_URL: the database is not available"
    assert json.loads(logged[-1])["error"] == "ConnectionRefusedError"
