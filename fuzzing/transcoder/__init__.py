"""The transcoder, in this process: any bytes as method, path, query, headers and body.

Every request must get an answer that HTTP and ASGI allow, with a status that is not the gateway's fault, in a time and
with memory in proportion to its size, and must leave no task and no call behind. What is accepted must be the same
message when it is printed and read again, and what protobuf's own json_format makes of it where that accepts it too.
The services are the shop's, and the zoo of the tests, which has a field of every kind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from google.protobuf.descriptor import ServiceDescriptor
from starlette.types import ASGIApp

from benchmarks.report import Promise, Report, Table
from fuzzing.found import Finding
from fuzzing.transcoder.backend import Backend
from fuzzing.transcoder.hunt import Hunter, Search
from fuzzing.transcoder.request import Request
from shop_services.gateway.transcoder import Transcoder
from shop_services.gateway.wiring import SERVICES
from tests.unit.services.gateway import zoo


def services() -> Sequence[ServiceDescriptor]:
    """The services behind the transcoder."""
    return (zoo.service(), *SERVICES)


def transcoder(backend: Backend) -> ASGIApp:
    """The transcoder in front of them."""
    return Transcoder(services(), backend.channel)


def search(
    seed: int, seconds: float, tell: Callable[[str], None], make: Callable[[Backend], ASGIApp] = transcoder
) -> Search:
    """Fuzz what `make` makes for so many seconds."""
    return Hunter(services(), make).search(seed, seconds, tell)


def replay(inputs: Sequence[dict[str, object]], make: Callable[[Backend], ASGIApp] = transcoder) -> list[str]:
    """What is wrong when these inputs are played, as `Finding` keeps them; nothing if all is well."""
    return [f"{kind}: {what}" for kind, what in Hunter(services(), make).again([Request.of(one) for one in inputs])]


def report(found: Search, *, seconds: float, seed: int) -> tuple[Report, list[Finding]]:
    """What `search` did, and what it found."""
    total = found.requests
    answers = Table(
        "Answers",
        ("status", "requests", "share"),
        tuple(
            (str(status or "none, as the client left"), count, f"{count / total:.1%}")
            for status, count in sorted(found.statuses.items())
        ),
    )
    notes = [
        f"{total:,} requests; {found.corpus:,} led somewhere new; {found.lines:,} lines of the gateway were seen.",
        f"The slowest took {found.slowest * 1000:.0f} ms of CPU; {found.blocks:,} blocks of memory more at the end.",
        *map(str, found.findings),
    ]
    promises = [Promise("no crash, hang, leak or wrong answer", len(found.findings), 0)]
    settings = {"seconds": f"{seconds:g}", "seed": seed}
    return Report("transcoder", settings, [answers], promises, notes, command="fuzz"), found.findings
