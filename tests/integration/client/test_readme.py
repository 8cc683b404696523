"""The first success of `client/README.md`, as written."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.servers import Etcd

README = Path(__file__).parents[3] / "client" / "README.md"


@pytest.mark.parametrize("registry", ["memory", "etcd"])
async def test_the_two_minutes(tmp_path: Path, shared_etcd: Etcd, registry: str) -> None:
    """The demonstration runs over either registry and shows two endpoints, then one."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    demo = tmp_path / "demo.py"
    demo.write_text(blocks[0])
    url = "memory://demo" if registry == "memory" else f"{shared_etcd.url}/readme"
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(demo), url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert re.findall(r"status: SERVING|\d of \d ready", out.decode()) == [
        "status: SERVING",
        "2 of 2 ready",
        "status: SERVING",
        "1 of 1 ready",
    ]
