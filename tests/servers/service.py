"""A service of the shop as a process of its own, as `shop serve` runs it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.servers.process import ServerProcess


class ServiceProcess(ServerProcess):
    """`python -m shop_services.SERVICE` with the variables `environment`. Give each start a directory of its own."""

    def __init__(self, service: str, directory: Path, environment: Mapping[str, str]) -> None:
        super().__init__(directory)
        self._service = service
        self._environment = environment

    def command(self) -> Sequence[str]:
        variables = [f"{name}={value}" for name, value in self._environment.items()]
        return ["/usr/bin/env", *variables, sys.executable, "-m", f"shop_services.{self._service}"]

    def ready(self) -> bool:
        return b'"listening"' in self.log.read_bytes()
