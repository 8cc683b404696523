"""A shop started as a user starts it, with the tools that a user has."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import nats

from shop_services.launch import tether
from shop_services.messaging.jetstream.streams import stream_name
from shop_services.runtime.operator import operator_token
from shop_services.runtime.settings import Settings
from shop_services.runtime.tls import OPERATOR, registry_url
from tests.e2e.processes import descendants

BIN = Path(sysconfig.get_path("scripts"))

ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("SHOP_") and name not in {"REGISTRY_URL", "DATABASE_URL", "NATS_URL", "CACHE_URL"}
}
"""What a shell passes on, without settings that could reach the shop by accident."""

_DISPLACED = re.compile(
    r"^\S+ \(pid \d+\) exited with \d+: somebody else has taken its port\n(?:    .*\n)*"
    r"|^starting again, on other ports\n",
    re.MULTILINE,
)


class RunningShop:
    """`shop up` as a process; it dies with the tests. Its output goes to files, so that nobody must read it."""

    def __init__(self, data: Path, *flags: str, **environment: str) -> None:
        self.data = data
        self._flags = flags
        self._environment = {**ENVIRONMENT, **environment}
        self._out = data.with_name(f"{data.name}.out")
        self._err = data.with_name(f"{data.name}.err")
        self._process: subprocess.Popen[bytes] | None = None

    # Start and stop

    def spawn(self) -> Self:
        """Start it without waiting."""
        command = [str(BIN / "shop"), "up", "--data", str(self.data), "--port", "0", *self._flags]
        tethered = [sys.executable, "-I", "-S", str(tether.__file__), str(os.getpid()), *command]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                tethered,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=self._environment,
                start_new_session=True,
            )
        return self

    def start(self) -> Self:
        """Start it and return when it says that it is ready."""
        self.spawn()
        self.wait_for("ready:")
        return self

    def wait_for(self, beginning: str, seconds: float = 120) -> None:
        """Return when it has printed a line that begins so; fails if it ends before."""
        deadline = time.monotonic() + seconds
        while not any(line.startswith(beginning) for line in self.output()):
            assert self.process.poll() is None, f"it ended before it said {beginning!r}:\n{self.errors()}"
            assert time.monotonic() < deadline, f"it did not say {beginning!r}:\n{self.errors()}"
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self, seconds: float = 60) -> int:
        """Return the exit code when it has ended by itself."""
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End it by SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "not started"
        return self._process

    def descendants(self) -> set[int]:
        """The ids of all processes that it has started and that live."""
        return descendants(self.process.pid)

    # What it said

    def output(self) -> list[str]:
        """The lines that it has printed to their end."""
        return self._out.read_text().rpartition("\n")[0].splitlines()

    def errors(self) -> str:
        return self._err.read_text()

    def complaints(self) -> str:
        """Its errors, but for ports that a shop which started at the same time, for another test, was quicker to take.

        All draw from the same ports. Who loses one says so, and starts again on others.
        """
        return _DISPLACED.sub("", self.errors())

    @property
    def gateway(self) -> str:
        return self._ready().split()[1]

    @property
    def registry(self) -> str:
        return self._ready().split()[2]

    @property
    def bus(self) -> str:
        return self._ready().split()[3]

    def sees_message_handled(self, topic: str, seconds: float = 30) -> None:
        """Return as soon as a worker of `topic` has a message that it has not acknowledged."""

        async def look() -> None:
            connection = await nats.connect(self.bus, connect_timeout=5)
            try:
                async with asyncio.timeout(seconds):
                    info = connection.jetstream().consumer_info
                    while not (await info(stream_name(topic), topic)).num_ack_pending:  # noqa: ASYNC110 - a server
                        await asyncio.sleep(0.05)
            finally:
                await connection.close()

        asyncio.run(look())

    def _ready(self) -> str:
        (line,) = (line for line in self.output() if line.startswith("ready:"))
        return line

    # A user's tools

    def token(self) -> str:
        """What `shop token` prints on this machine: an access token of the operator."""
        return operator_token(Settings(data=self.data))

    def http(self, method: str, path: str, body: object = None, *, status: int = 200, token: str | None = None) -> Any:
        """The JSON that the gateway answers to the operator, or to who has `token` ("": nobody).

        Fails if the status is another.
        """
        data = None if body is None else json.dumps(body).encode()
        token = self.token() if token is None else token
        named = {"authorization": f"Bearer {token}"} if token else {}
        headers = {"content-type": "application/json", **named}
        request = Request(self.gateway + path, data, headers, method=method)  # noqa: S310 - the gateway's URL is http
        try:
            with urlopen(request, timeout=20) as response:  # noqa: S310
                code, text = response.status, response.read()
        except HTTPError as error:
            code, text = error.code, error.read()
        assert code == status, f"{method} {path}: {code} {text!r}"
        return json.loads(text)

    def answers(self, url: str) -> bool:
        """Whether a GET of `url` is answered with 200."""
        try:
            with urlopen(url, timeout=20) as response:  # noqa: S310 - ours, on the loopback
                return bool(response.status == 200)
        except OSError:
            return False

    def meshctl(self, *arguments: str) -> str:
        url = self.registry
        if url.startswith("etcds://"):
            settings = Settings(registry_url=url, nats_url="memory://", tls_dir=self.data / "tls")
            url = registry_url(settings, OPERATOR)
        return self.run("meshctl", "--registry", url, *arguments)

    def instances(self, service: str | None = None) -> list[dict[str, Any]]:
        """What `meshctl ls -o json` prints."""
        return list(json.loads(self.meshctl("ls", *([service] if service else []), "-o", "json")))

    def successor(self, of: dict[str, Any], seconds: float = 30) -> dict[str, Any]:
        """The one instance beside `of` in the service of that, as soon as there is one."""
        deadline = time.monotonic() + seconds
        while not (found := [i for i in self.instances(of["service"]) if i["id"] != of["id"]]):
            assert time.monotonic() < deadline, f"none but {of} is listed"
        (instance,) = found
        return instance

    def etcdctl(self, *arguments: str) -> str:
        return self.run("etcdctl", f"--endpoints={self.registry.removeprefix('etcd://')}", *arguments)

    def mails(self, address: str) -> list[dict[str, Any]]:
        """What `shop mail ls` lists for an address, newest first."""
        listed = self.run("shop", "mail", "ls", "--to", address, "--data", str(self.data), "-o", "json")
        return list(json.loads(listed))

    def grpcurl(self, *arguments: str) -> str:
        return self.run("grpcurl", "-plaintext", "-max-time", "20", *self._as_operator(), *arguments)

    def _as_operator(self) -> list[str]:
        return ["-H", f"authorization: Bearer {self.token()}"]

    def run(self, program: str, *arguments: str) -> str:
        """What a program prints; fails, with what it says, unless it exits with 0."""
        result = subprocess.run(
            [str(BIN / program), *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
        )
        assert result.returncode == 0, f"{program} {' '.join(arguments)}: {result.stderr or result.stdout}"
        return result.stdout

    def run_line(self, line: str) -> str:
        """What a line of a shell prints, with the shop's commands on the path; fails unless it exits with 0."""
        variables = {**ENVIRONMENT, "PATH": f"{BIN}:{ENVIRONMENT['PATH']}"}
        result = subprocess.run(
            ["/bin/sh", "-c", line], env=variables, capture_output=True, text=True, timeout=60, check=False
        )
        assert result.returncode == 0, f"{line}: {result.stderr or result.stdout}"
        return result.stdout

    @contextmanager
    def streaming(self, *arguments: str) -> Iterator[Iterator[Any]]:
        """A `grpcurl` that goes on: gives the messages that it prints, as they come."""
        command = [str(BIN / "grpcurl"), "-plaintext", "-max-time", "60", *self._as_operator(), *arguments]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENVIRONMENT
        ) as process:
            assert process.stdout is not None
            try:
                yield _objects(process.stdout)
            finally:
                process.kill()


def _objects(lines: Iterator[str]) -> Iterator[Any]:
    """JSON objects printed one after the other over several lines each, as grpcurl does."""
    text = ""
    for line in lines:
        text += line
        if line.startswith("}"):
            yield json.loads(text)
            text = ""
    assert not text.strip(), text
