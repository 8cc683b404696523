"""Machines that seem to be gone: the other endpoints there are suspect until they have answered.

Workers of one server share a machine (`Instance.host`), so what one connection tells may concern the others. A process
that dies closes its connections, and its port refuses new ones: nothing is said of its neighbours. A machine that dies,
freezes or is cut off says nothing at all, and each connection to it would have to find that out by itself, its calls
waiting meanwhile. But a single process that is stopped is as silent, so silence makes the neighbours suspect and no
more: one small question each, and who answers is picked again at once.

What grpcio 1.85 says was found by experiment, on Linux, with a proxy that stopped forwarding, a process that was
killed, a listener with a full queue, and a network namespace with its interface down or without a route:

    lost while calls were in progress     Stream removed (ping timeout)
                                          Stream removed (Delayed close due to in-progress write (ping timeout))
                                          Stream removed (recvmsg:Connection timed out (110))
    connecting, unanswered                connect() timed out
                                          tcp handshaker shutdown
                                          getsockopt(SO_ERROR): Connection timed out
                                          connection attempt timed out before receiving SETTINGS frame
    connecting, no way there              connect failed: addr: ipv4:10.1.0.1:80 error: No route to host
                                          connect failed: addr: ipv4:10.3.0.1:80 error: Network is unreachable
    a process that died or closed         Stream removed (Socket closed), recvmsg:Connection reset by peer (104),
                                          Connection refused, Cancelling all calls
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol, TypeVar

from grpc_registry import Instance

_SILENT_OR_UNREACHABLE = re.compile(
    # The system's own texts are for ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, EHOSTDOWN and ENETDOWN, of glibc, and of musl
    # or macOS where they differ.
    r"\bping timeout\b|\bkeepalive (watchdog )?timeout\b|\bconnect\(\) timed out\b|^tcp handshaker shutdown\b"
    r"|\btimed out before receiving SETTINGS\b|\b(Connection|Operation) timed out\b"
    r"|\bNo route to host\b|\b(Network|Host) (is )?unreachable\b|\b(Network|Host) is down\b"
)

_LOST = "Stream removed"

_OF_THE_NAME = ("errors resolving ", "DNS resolution failed")


class Placed(Protocol):
    """An endpoint, as far as it matters here."""

    @property
    def instance(self) -> Instance: ...


P = TypeVar("P", bound=Placed)


def speaks_of_the_machine(reason: str) -> bool:
    """Whether the reason for which a connection was lost, or not made, may be that the whole machine is out of reach.

    `reason` is what `failure.reason` leaves of an attempt to connect.
    """
    return _SILENT_OR_UNREACHABLE.search(reason) is not None and not reason.startswith(_OF_THE_NAME)


def call_speaks_of_the_machine(details: str) -> bool:
    """The same for the details of a call that was in progress, which can come before its channel's state changes.

    A server may tell of its own connections in such words, or an application of its database, so they count only with
    those that gRPC has for the loss of this connection.
    """
    return details.startswith(_LOST) and speaks_of_the_machine(details)


class Suspects:
    """The endpoints that are not to be picked until they have answered."""

    def __init__(self) -> None:
        self._suspects: set[Placed] = set()

    def add(self, lost: P, ready: Iterable[P]) -> list[P]:
        """The machine of `lost` seems to be gone. Who of `ready` has become suspect by that, and is to be asked.

        Nobody, if `lost` says not where it runs. What is not READY proves by its next connection that it is there.
        """
        host = lost.instance.host
        new = [one for one in ready if host and one.instance.host == host and one is not lost and one not in self]
        self._suspects.update(new)
        return new

    def forget(self, endpoint: Placed) -> bool:
        """It has answered, has a new connection, or has left. Whether it was suspect."""
        if endpoint not in self._suspects:
            return False
        self._suspects.remove(endpoint)
        return True

    def __contains__(self, endpoint: object) -> bool:
        return endpoint in self._suspects

    def __len__(self) -> int:
        return len(self._suspects)
