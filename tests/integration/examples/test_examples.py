"""Every program in `examples/`, run as its reader runs it."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import sys
from pathlib import Path

import pytest

from tests.servers import Etcd
from tests.servers.ports import free_port

EXAMPLES = Path(__file__).parents[3] / "examples"
SHARED = {"replicas.py"}

SHOWN = {
    "blocking": [
        r"100 of 100 calls from 8 threads answered",
        r"round_robin for demo: 2 candidates",
    ],
    "deadlines": [
        r"front: (?!0\.0)[0-3]\.\d s left",
        r"front: waited for \d\.\d s",  # not 30
        r"caller, after its 3 s: DEADLINE_EXCEEDED",
    ],
    "discovery": [
        r"answered by: \['one', 'two'\]",
        r"while three came and one drained: \d+ calls, 0 failed",
        r"answered by: \['three', 'two'\]",
    ],
    "ejection": [
        r"log: ejected broken 127\.0\.0\.1:\d+ of 'demo': its calls fail or take too long",
        r"5 of 60 calls failed: one 2\d, two 2\d, broken 5",
        r"broken 127\.0\.0\.1:\d+, weight 100, 0 \+\d\.\d outstanding: ejected for \d s more",
        r"after the ejection, of 60 calls: one 20, two 20, broken 20",
    ],
    "frameworks": [
        r"etcd's naming: answered by one; version 1\.4\.0, weight 200",
        r"kratos: answered by one; version 1\.4\.0, weight 200",
        r"go-zero: answered by one; version -, weight 100",
    ],
    "health": [
        r"least_outstanding for demo: 1 candidate",
        r"two 127\.0\.0\.1:\d+, weight 100, 0 outstanding: transient failure: the server says NOT_SERVING",
        r"least_outstanding for demo: 2 candidates",
    ],
    "hedging": [
        r"without hedging: the slowest of 30 calls took [5-9]\d\d\d ms; attempts: one 10, two 10, stuck 10",
        r"with hedging: the slowest of 30 calls took [1-4]?\d?\d\d ms; attempts: one \d+, two \d+, stuck \d\d",
    ],
    "limit": [
        r"queue of 0: 4 of 10 calls at once answered, 6 failed",
        r"UNAVAILABLE: 'demo' is at its limit: 2 calls in progress at each endpoint, 0 waiting",
        r"queue of 3: 7 of 10 calls at once answered, 3 failed",
    ],
    "live_config": [
        r"least_outstanding: answered by",
        r"round_robin: in force after [0-3]\.\d s",  # a second is promised; the machine may stand still
        r"with its timeout of 0\.2 s: DEADLINE_EXCEEDED",
        r"a mistake is not written: loadBalancingConfig: must be a list with a known policy",
        r"least_outstanding: answered by",
    ],
    "metrics": [
        r"grpc\.client\.attempt\.started \{grpc\.method=grpc\.health\.v1\.Health/Check, .*\} 100",
        r"grpc\.client\.call\.duration \{.*grpc\.status=OK\} 100 times",
        r"grpc_balancer\.endpoints \{.*grpc_balancer\.state=ready\} 2",
    ],
    "own_policy": [r"canary: old-1 \d+, old-2 \d+, new \d\d?$"],
    "policies": [
        r"least_outstanding +slow \d\d?, normal \d+, double \d+",
        r"pick_first .*\b400\b",
        r"round_robin +slow 13[34], normal 13[34], double 13[34]",
        r"weighted_round_robin +slow 100, normal 100, double 200",
    ],
    "retries": [
        r"without retries: 30 of 90 calls failed; attempts: one 30, two 30, broken 30",
        r"UNAVAILABLE: broken does not feel well",
        r"with retries: 0 of 90 calls failed; attempts: one \d\d, two \d\d, broken 30",
    ],
    "ring_hash": [
        r"user-7 is at (\w+) and again at \1",
        r"the same for all users: True",
        r"a fourth replica: \d\d of 100 users moved, to \{'four'\}",
        r"without it all are back: True",
    ],
    "slow_start": [
        r"at first, of 30 calls: one 1\d, two 1\d, new \d$",
        r"when it is warm, of 30 calls: one 10, two 10, new 10",
    ],
    "subset": [
        r"client-0: \['r\d', 'r\d', 'r\d'\]",
        r"the same after a restart: True",
        r"r0, which had (\d+), leaves: \1 of 60 connections change",
    ],
    "tls": [r"the servers saw client-1 and then client-2; 0 of \d+ calls failed"],
    "zones": [
        r"4 of 4 here: 100% of the calls stay",
        r"3 of 4 here: 100% of the calls stay",
        r"2 of 4 here: 70% of the calls stay",
        r"1 of 4 here: 35% of the calls stay",
    ],
}
"""What each prints, in this order, with more between."""


async def run(name: str, *arguments: str, fails: bool = False) -> list[str]:
    """The lines that it prints; if it is to fail, those of stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / f"{name}.py"),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(120):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == int(fails), err.decode()
    return (err if fails else out).decode().splitlines()


def check(name: str, lines: list[str]) -> None:
    left = iter(lines)
    for expected in SHOWN[name]:
        assert any(re.search(expected, line) for line in left), f"no {expected!r} in its place in {lines}"


@pytest.mark.parametrize("name", sorted(SHOWN.keys() - {"frameworks"}))
async def test_an_example_shows_its_feature(name: str) -> None:
    """The example ends well, without a registry, and prints what it is there to show."""
    if name == "tls" and shutil.which("openssl") is None:
        pytest.skip("no openssl, by which the example makes its certificates")
    check(name, await run(name))


@pytest.mark.parametrize("name", ["discovery", "frameworks", "live_config"])
async def test_an_example_over_etcd(name: str, shared_etcd: Etcd) -> None:
    """The example shows the same over etcd."""
    check(name, await run(name, f"{shared_etcd.url}/{secrets.token_hex(4)}"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("frameworks", r"This example needs an etcd, by default at 127\.0\.0\.1:2379: .*Connection refused"),
        (
            "blocking",
            r"No instance of `demo` is connected after 5 s\. Is a server registered at etcd://127\.0\.0\.1:\d+\?",
        ),
    ],
)
async def test_an_example_without_what_it_needs(name: str, said: str) -> None:
    """Without an etcd the example gives up within seconds and says what it misses, without a traceback."""
    lines = await run(name, f"etcd://127.0.0.1:{free_port()}", fails=True)
    assert re.fullmatch(said, lines[-1])
    assert "Traceback" not in "\n".join(lines)


def test_every_example_is_listed_and_tested() -> None:
    """The README of the examples names each, and so does this file."""
    present = {path.name for path in EXAMPLES.glob("*.py")}
    listed = set(re.findall(r"^\| \[(\w+\.py)\]", (EXAMPLES / "README.md").read_text(), re.MULTILINE))
    assert present - SHARED == listed == {f"{name}.py" for name in SHOWN}
