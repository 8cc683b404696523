"""Mutual TLS with certificates that are replaced while calls are made. It makes them with `openssl` (3 or newer)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from grpc_health.v1 import health_pb2_grpc
from replicas import ask, connected, replicas

import grpc_registry
from grpc_balancer import Channel
from grpc_registry import TlsFiles


def issue(directory: Path, name: str, common_name: str) -> None:
    """Replace a certificate and its key, as cert-manager, Vault or a cron job do."""
    key, cert = directory / f"{name}.key", directory / f"{name}.pem"
    options = f"-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN={common_name}"
    if name != "ca":
        options += f" -CA {directory}/ca.pem -CAkey {directory}/ca.key -addext subjectAltName=IP:127.0.0.1"
    command = f"openssl req -x509 {options} -keyout {key}.new -out {cert}.new"
    subprocess.run(command.split(), check=True, capture_output=True, timeout=30)
    for path in (key, cert):  # by renaming, so that nobody reads half a file
        Path(f"{path}.new").replace(path)


async def main(directory: Path, url: str = "memory://") -> None:
    for name in ("ca", "server", "client"):
        issue(directory, name, f"{name}-1")
    for_server = TlsFiles(directory / "ca.pem", directory / "server.pem", directory / "server.key")
    for_client = TlsFiles(directory / "ca.pem", directory / "client.pem", directory / "client.key")
    async with (
        grpc_registry.connect(url) as registry,
        replicas(registry, "one", "two", tls=for_server) as (one, two),
        Channel("demo", registry, policy="round_robin", credentials=for_client) as channel,
    ):
        await connected(channel, 2)
        stub = health_pb2_grpc.HealthStub(channel)
        calls, seen = 0, list[str]()
        async with asyncio.timeout(20):
            while seen[-1:] != ["client-2"]:
                await ask(stub)  # one that fails would raise
                calls += 1
                if one.caller == two.caller and one.caller not in seen:
                    seen.append(one.caller)
                    issue(directory, "server", "server-2")
                    issue(directory, "client", "client-2")
        print(f"the servers saw {' and then '.join(seen)}; 0 of {calls} calls failed")


with tempfile.TemporaryDirectory() as made:
    asyncio.run(main(Path(made), *sys.argv[1:]))
