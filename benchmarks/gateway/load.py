"""The load on HTTP, as a program: `load.py PORT CONNECTIONS WARM SECONDS PIDS PATH…` prints a `Window`.

Keep-alive connections that each send one request after another, by hand: the less this costs, the more of the machine
is left to what is measured. It is run as a file, isolated, so that it starts with the standard library alone.
"""

from __future__ import annotations

import itertools
import json
import selectors
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Self

_DEADLINE = 30.0
_END, _LENGTH = b"\r\n\r\n", b"\r\ncontent-length:"
_OK, _BUSY = b"HTTP/1.1 200 ", b"HTTP/1.1 503 "


@dataclass(frozen=True, slots=True)
class Window:
    """The requests that were answered while it counted, and the processor seconds of each watched process meanwhile.

    `refused` is how many more were answered that there is too much to do, as they are on a machine that is too busy.
    """

    seconds: float
    latencies: Sequence[float]
    refused: int
    processor: Mapping[str, float]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.latencies) / self.seconds

    def text(self) -> str:
        """One line for the process that asked."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, text: str) -> Self:
        """What `text` wrote."""
        return cls(**json.loads(text))


class Counting:
    """Counts answers, from the first one after the warm-up on. `pids` are of the processes to watch, as text."""

    def __init__(self, pids: Sequence[str], *, warm: float, seconds: float) -> None:
        self._pids = pids
        self._warm = time.perf_counter() + warm
        self._seconds = seconds
        self._begun = 0.0  # not yet
        self._processor: dict[str, float] = {}
        self._latencies: list[float] = []
        self._refused = 0

    def answered(self, sent: float, now: float, *, refused: bool = False) -> bool:
        """Note an answer to what was sent at `sent`, both by `time.perf_counter`; False: enough, send no more."""
        if not self._begun:
            if now >= self._warm:
                self._processor = self._look()
                self._begun = time.perf_counter()
            return True
        if refused:
            self._refused += 1
        else:
            self._latencies.append(now - sent)
        return now < self._begun + self._seconds

    def window(self) -> Window:
        """All that was counted."""
        seconds = time.perf_counter() - self._begun
        processor = {pid: spent - self._processor[pid] for pid, spent in self._look().items()}
        return Window(seconds, self._latencies, self._refused, processor)

    def _look(self) -> dict[str, float]:
        return {pid: processor_seconds(pid) for pid in self._pids}


def processor_seconds(pid: str) -> float:
    """Seconds that all threads of a process have had a processor. Raises `OSError` if there is no such process."""
    # Linux has this clock for every process: clock_getcpuclockid(3), in nanoseconds. /proc counts steps of 10 ms, which
    # is more than a program may need for all the requests of a short slice.
    return time.clock_gettime(~int(pid) << 3 | 2)


class BadAnswer(RuntimeError):
    """A server answered with something else than 200 or 503, and a length; the message has its beginning."""


class _Connection:
    """One connection, which has at most one request under way."""

    def __init__(self, port: int, requests: Iterator[bytes]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_DEADLINE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._requests = requests
        self._received = b""
        self.sent = 0.0

    def send(self) -> None:
        self._received = b""
        self.sent = time.perf_counter()
        self.socket.sendall(next(self._requests))

    def answered(self) -> bytes | None:
        """Take what has arrived. The head of the answer, if that is whole."""
        data = self.socket.recv(65536)
        if not data:
            raise BadAnswer("the server has closed a connection")
        self._received = self._received + data if self._received else data
        head, end, body = self._received.partition(_END)
        return head if end and len(body) >= _length(head) else None


def _length(head: bytes) -> int:
    _, name, rest = head.lower().partition(_LENGTH)
    if not head.startswith((_OK, _BUSY)) or not name:
        raise BadAnswer(head[:300].decode("latin-1"))
    return int(rest.partition(b"\r\n")[0])


def load(port: int, connections: int, paths: Sequence[str], counting: Counting) -> Window:
    """Keep so many connections busy until enough is counted. Raises `BadAnswer`, `TimeoutError`."""
    requests = itertools.cycle(
        [f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: */*\r\n\r\n".encode() for path in paths]
    )
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            connection = _Connection(port, requests)
            selector.register(connection.socket, selectors.EVENT_READ, connection)
            connection.send()
        try:
            while events := selector.select(_DEADLINE):
                for key, _ in events:
                    connection = key.data
                    if (head := connection.answered()) is None:
                        continue
                    busy = head.startswith(_BUSY)
                    if not counting.answered(connection.sent, time.perf_counter(), refused=busy):
                        return counting.window()
                    connection.send()
        finally:
            for key in selector.get_map().values():
                key.data.socket.close()
    raise TimeoutError(f"no answer in {_DEADLINE:g} s")


def main(port: str, connections: str, warm: str, seconds: str, pids: str, *paths: str) -> None:
    """Load, and print what was found."""
    counting = Counting(pids.split(","), warm=float(warm), seconds=float(seconds))
    sys.stdout.write(load(int(port), int(connections), paths, counting).text())


if __name__ == "__main__":
    main(*sys.argv[1:])
