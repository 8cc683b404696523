"""The examples of `client/README.md`, as written."""

from __future__ import annotations

import asyncio
import random
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import grpc_balancer
from grpc_balancer.testing import FakeEndpoint
from grpc_registry import Instance
from grpc_registry.service_config import Balancing, FailurePercentage, OutlierDetection, parse
from tests.servers import Etcd

README = Path(__file__).parents[3] / "client" / "README.md"
BLOCKS: list[str] = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("registry", ["memory", "etcd"])
async def test_the_two_minutes(tmp_path: Path, shared_etcd: Etcd, registry: str) -> None:
    """The demonstration runs over either registry and shows two endpoints, then one."""
    demo = tmp_path / "demo.py"
    demo.write_text(BLOCKS[0])
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


def test_the_service_config_is_one() -> None:
    """The service config that the README shows is valid, and says what the text around it says."""
    known = _run(_block("SERVICE_CONFIG = ").split("channel =")[0])
    config = parse(known["SERVICE_CONFIG"])
    assert config.balancing == Balancing("least_outstanding")
    assert config.method("/shop.product.v1.ProductService/GetProduct").retry is not None
    assert config.method("/shop.product.v1.ProductService/ListProducts").hedging is not None


def test_the_json_service_config_is_one() -> None:
    """The JSON that the README shows sets outlier detection and health checks, as the text around it says."""
    (text,) = re.findall(r"```json\n(.*?)```", README.read_text(), flags=re.DOTALL)
    config = parse(text)
    assert config.health_service == ""
    assert config.balancing is not None
    assert config.balancing.policy == "least_outstanding"
    expected = OutlierDetection(
        interval=10,
        base_ejection_time=30,
        max_ejection_percent=10,
        consecutive_failures=5,
        failure_percentage=FailurePercentage(threshold=85),
    )
    assert config.balancing.outlier_detection == expected


def test_the_policy_passes_its_test() -> None:
    """The README's own policy does what the README's test of it says."""
    names = {"grpc_balancer": grpc_balancer, "FakeEndpoint": FakeEndpoint, "Instance": Instance, "random": random}
    known = _run(_block("class Nearest"), **names, call=None)
    _run("candidates = " + _block("FakeEndpoint(").split("candidates = ")[1], **known)


def _block(part: str) -> str:
    """The Python block of the README that has this in it."""
    (found,) = (block for block in BLOCKS if part in block)
    return found


def _run(code: str, **names: Any) -> dict[str, Any]:
    exec(code, names)  # noqa: S102 - from our own README
    return names
