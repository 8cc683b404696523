"""The memory of processes, as the kernel tells it."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from benchmarks.orders.memory import resident, watched

_GROWS = """
import sys
held = bytearray(b"x" * 2**20) * 8
sys.stdout.write("small\\n"); sys.stdout.flush()
sys.stdin.readline()
held += bytearray(b"x" * 2**20) * 32
sys.stdout.write("large\\n"); sys.stdout.flush()
sys.stdin.readline()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
async def test_growth_is_what_a_process_took_since() -> None:
    """A process that takes 32 MiB more is seen to have grown by about that; its parent has it as a part."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _GROWS, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(30):
            assert await process.stdout.readline() == b"small\n"
            async with watched({"it": process.pid}) as memory:
                process.stdin.write(b"\n")
                assert await process.stdout.readline() == b"large\n"
                memory.look()
            assert 30 <= memory.growth("it") <= 80
            assert memory.before["it"] >= 8
            assert resident(os.getpid()) >= resident(process.pid)  # its parent: children are counted in
    finally:
        process.kill()
        await process.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_a_process_that_is_gone_is_an_error() -> None:
    """The memory of a process that does not run is not zero but an error."""
    with pytest.raises(FileNotFoundError):
        resident(2**22 + 1)
