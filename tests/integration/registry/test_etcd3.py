"""Our registrations as the `etcd3` package sees them, in a process of its own.

It needs protobuf's implementation in pure Python, which is a choice for a whole process, and is installed beside .venv,
once, since nothing else here may depend on it.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from grpc_registry import Instance, State
from tests.integration.registry.conftest import Connect
from tests.servers import Etcd

_HERE = Path(__file__).parent
_PINS = _HERE / "etcd3_pins.txt"


@pytest.fixture(scope="session")
def etcd3() -> Path:
    """The folder with the package `etcd3`; installed by pip if its pins are not those that it was made from."""
    folder = Path(sys.prefix) / "beside" / "etcd3"
    stamp = folder / "installed.stamp"
    if not stamp.exists() or stamp.read_text() != _PINS.read_text():
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--no-input", "install"]
        subprocess.run(
            [*pip, "--no-deps", "--no-build-isolation", "--upgrade", "--target", str(folder), "-r", str(_PINS)],
            check=True,
            timeout=120,
        )
        stamp.write_text(_PINS.read_text())
    return folder


class Observer:
    """The running `etcd3_observer.py`."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def says(self) -> dict[str, Any]:
        """What it says next."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 60)
        assert line, "the observer ended"
        said = json.loads(line)
        assert isinstance(said, dict)
        return said


@asynccontextmanager
async def observing(folder: Path, server: Etcd, prefix: str) -> AsyncIterator[Observer]:
    environment = {**os.environ, "PYTHONPATH": str(folder), "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", str(_HERE / "etcd3_observer.py"), str(server.port), prefix),
        env=environment,
        stdin=PIPE,
        stdout=PIPE,
    )
    try:
        yield Observer(process)
        assert process.stdin is not None
        process.stdin.close()
        assert await asyncio.wait_for(process.wait(), 20) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_etcd3_reads_and_watches_our_registrations(
    shared: Connect, shared_etcd: Etcd, prefix: str, etcd3: Path
) -> None:
    """It finds an instance with its value, and sees another one come, get another weight, drain and go."""
    first = Instance("product", "10.0.0.1:50051", id="a1", zone="a", version="1.4.0", host="h1")
    async with shared() as registry:
        await registry.register(first).wait_registered()
        async with observing(etcd3, shared_etcd, f"{prefix}/product/") as observer:
            value = {
                "Op": 0,
                "Addr": "10.0.0.1:50051",
                "Metadata": {"weight": 100, "state": "serving", "zone": "a", "version": "1.4.0", "host": "h1"},
            }
            assert await observer.says() == {"found": {f"{prefix}/product/a1": value}}

            registration = registry.register(Instance("product", "10.0.0.2:50051", id="a2"))
            key, value, lease = (await observer.says())["put"]
            assert (key, value["Addr"], value["Metadata"]["state"]) == (
                f"{prefix}/product/a2",
                "10.0.0.2:50051",
                "serving",
            )
            assert lease
            await registration.update(weight=7)
            key, value, same = (await observer.says())["put"]
            assert (value["Metadata"]["weight"], same) == (7, lease)
            await registration.update(state=State.DRAINING)
            key, value, same = (await observer.says())["put"]
            assert (value["Metadata"]["state"], same) == ("draining", lease)
            await registration.close()
            assert await observer.says() == {"delete": f"{prefix}/product/a2"}
