"""The examples of registry/README.md, run as they are written there."""

from __future__ import annotations

import asyncio
import re
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.servers import Etcd

README = Path(__file__).parents[3] / "registry" / "README.md"


@pytest.fixture
def examples(tmp_path: Path) -> list[Path]:
    """The Python blocks of the README as files, in its order."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    paths = [tmp_path / f"example{number}.py" for number in range(len(blocks))]
    for path, block in zip(paths, blocks, strict=True):
        path.write_text(block)
    return paths


async def test_the_first_two_minutes(examples: list[Path], etcd: Etcd) -> None:
    """The client of the README sees the server of the README come, drain and leave."""
    serve, look, _ = examples
    looking = await asyncio.create_subprocess_exec(sys.executable, look, etcd.url, stdout=PIPE)
    assert looking.stdout is not None

    async def seen() -> str:
        assert looking.stdout is not None
        return (await asyncio.wait_for(looking.stdout.readline(), 20)).decode().strip()

    try:
        assert await seen() == "fresh []"
        serving = await asyncio.create_subprocess_exec(sys.executable, serve, etcd.url)
        try:
            assert re.fullmatch(r"fresh \['127\.0\.0\.1:\d+'\]", await seen())
            serving.send_signal(signal.SIGTERM)
            assert await seen() == "fresh []"
            assert await asyncio.wait_for(serving.wait(), 10) == 0
        finally:
            if serving.returncode is None:
                serving.kill()
    finally:
        looking.kill()
        await looking.communicate()


async def test_testing_without_etcd(examples: list[Path]) -> None:
    """The example of an outage in memory prints what its comments say."""
    process = await asyncio.create_subprocess_exec(sys.executable, examples[2], stdout=PIPE)
    output, _ = await process.communicate()
    first, second, third = output.decode().splitlines()
    assert "id='a'" in first
    assert "stale=False" in first
    assert "id='a'" in second
    assert "stale=True" in second
    assert "instances=(), stale=False, relisted=True" in third
