"""What the transcoder promises of every request, whatever it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from fuzzing.transcoder.arena import Outcome
from fuzzing.transcoder.backend import Made
from fuzzing.transcoder.request import Request
from shop_services.gateway import protojson
from shop_services.gateway.body import ClientGone
from shop_services.gateway.errors import failed_call
from shop_services.gateway.exchange import BrokenOff
from shop_services.gateway.httpbody import raw_request, raw_response
from shop_services.gateway.protojson.reader import MAX_DEPTH
from shop_services.gateway.rules import WHOLE, Rule, rules_of

CPU_SECONDS, CPU_SECONDS_A_BYTE = 0.3, 6e-6
"""What a request may cost: a thousand times what most do, and for each byte five times what the dearest do."""
PEAK_BYTES, PEAK_BYTES_A_BYTE = 64 * 1024 * 1024, 400
"""How much more memory it may take. `{},` is three bytes, and a message and an object of Python's: some 300."""

_REFUSED = frozenset({400, 404, 405, 406, 408, 413, 415, 431, 501})
_HEADER_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_HEADER_VALUE = re.compile(rb"(?:[!-~\x80-\xff](?:[ \t!-~\x80-\xff]*[!-~\x80-\xff])?)?")
_STATUS_KEYS = {"code", "message", "details"}

Wrong = tuple[str, str]
"""The promise in a word or two, and how it was broken."""


class Judge:
    """Knows the services behind the transcoder."""

    def __init__(self, services: Iterable[ServiceDescriptor]) -> None:
        self._rules: dict[str, list[Rule]] = {}
        for service in services:
            for rule in rules_of(service):
                self._rules.setdefault(rule.path, []).append(rule)

    def wrong(self, request: Request, outcome: Outcome, made: list[Made]) -> Wrong | None:
        """The first promise that is broken; None if all are kept."""
        return next(self._all_wrong(request, outcome, made), None)

    def too_much(self, request: Request, outcome: Outcome) -> Wrong | None:
        """Whether it took too much of the CPU or of memory."""
        if outcome.cpu > (limit := CPU_SECONDS + CPU_SECONDS_A_BYTE * request.size):
            return "slow", f"{outcome.cpu:.2f} s of CPU for {request.size} bytes, more than {limit:.2f} s"
        if outcome.peak > PEAK_BYTES + PEAK_BYTES_A_BYTE * request.size:
            return "memory", f"{outcome.peak >> 20} MiB for {request.size} bytes"
        return None

    def _all_wrong(self, request: Request, outcome: Outcome, made: list[Made]) -> Iterator[Wrong]:
        if outcome.hangs:
            yield "hang", f"no answer after {outcome.cpu:.1f} s of CPU"
            return
        if outcome.left:
            yield "leak of tasks", f"left behind: {', '.join(outcome.left)}"
        if outcome.logged:
            yield "log", "; ".join(outcome.logged)
        if outcome.error is not None:
            if not _excused(outcome.error, request, made):
                yield "exception", f"{type(outcome.error).__name__}: {outcome.error}"
            return
        if request.leaves and not outcome.starts:
            return
        yield from _wrong_form(request, outcome)
        if len(made) > 1:
            yield "calls", f"{len(made)} calls for one request"
        elif made:
            yield from self._wrong_call(request, outcome, made[0])
        elif outcome.status not in _REFUSED:
            yield "status", f"{outcome.status} without a call: {outcome.body[:300]!r}"
        else:
            yield from _wrong_status(outcome)

    def _wrong_call(self, request: Request, outcome: Outcome, made: Made) -> Iterator[Wrong]:
        if (metadata := made.wrong_metadata()) is not None:
            yield "metadata", metadata
        if not made.ended:
            yield "leak of calls", f"a call of {made.path} was neither read to its end nor cancelled"
        rules = self._rules[made.path]
        rpc = rules[0].rpc
        yield from _wrong_message("request", made.request)
        if any(_is_whole(rule, request) for rule in rules):
            yield from _different_reading(request, made)
        if rpc.server_streaming:
            if not (outcome.status == 200 or (made.failed is not None and outcome.status in _REFUSED | {503})):
                yield "status", f"{outcome.status} for a stream: {outcome.body[:300]!r}"
        elif made.failed is not None:
            if outcome.status != (expected := failed_call(made.failed).http_status):
                yield "status", f"{outcome.status} for {made.failed.code()}, which is {expected}"
            yield from _wrong_status(outcome)
        elif outcome.status != 200:
            yield "status", f"{outcome.status} though the call succeeded: {outcome.body[:300]!r}"
        elif request.method != "HEAD":
            yield from self._wrong_answer(outcome, made, rpc)

    def _wrong_answer(self, outcome: Outcome, made: Made, rpc: MethodDescriptor) -> Iterator[Wrong]:
        [response] = made.responses
        bodies = [raw(response).data for rule in self._rules[made.path] if (raw := raw_response(rule)) is not None]
        if outcome.body in bodies:
            return
        try:
            answer = json.loads(outcome.body, parse_constant=_no_number)
        except ValueError as error:
            yield "answer", f"is no JSON ({error}): {outcome.body[:300]!r}"
            return
        expected = [
            protojson.message_printer(rpc.output_type)(response)
            if rule.response_body is None
            else _field_json(rule.response_body, response)
            for rule in self._rules[made.path]
        ]
        if answer not in expected:
            yield "answer", f"is not the response: {outcome.body[:300]!r}"
        yield from _wrong_message("response", response)


def _is_whole(rule: Rule, request: Request) -> bool:
    """Whether a request by this rule is the JSON in its body, and nothing else."""
    plain = rule.body == WHOLE and not rule.bound and raw_request(rule) is None
    return plain and (rule.method, str(rule.template).encode()) == (request.method, request.path)


def _excused(error: BaseException, request: Request, made: list[Made]) -> bool:
    """Whether an exception is how a request may end: its client has left, or its stream broke off half-way."""
    if isinstance(error, BrokenOff):
        return bool(made) and made[0].failed is not None
    return request.leaves and isinstance(error, ClientGone)


def _field_json(field: Any, message: Any) -> Any:
    printer = protojson.field_printer(field)
    value = getattr(message, field.name)
    return value if printer is None else printer(value)


def _wrong_form(request: Request, outcome: Outcome) -> Iterator[Wrong]:
    """What breaks HTTP, or ASGI."""
    if outcome.wrong_events or not outcome.starts or not outcome.ended:
        what = f"{len(outcome.starts)} starts, {'an end' if outcome.ended else 'no end'}, then {outcome.wrong_events}"
        yield "form", what
    for name, value in outcome.headers:
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            yield "header", f"{name!r}: {value!r}"
        if name == b"content-length" and int(value) != len(outcome.body) and request.method != "HEAD":
            yield "form", f"a content-length of {value!r} for {len(outcome.body)} bytes"


def _wrong_status(outcome: Outcome) -> Iterator[Wrong]:
    """An error whose body is no google.rpc.Status."""
    try:
        body = json.loads(outcome.body)
    except ValueError:
        body = None
    if not isinstance(body, dict) or body.keys() != _STATUS_KEYS:
        yield "error", f"the body of {outcome.status} is no google.rpc.Status: {outcome.body[:300]!r}"
    elif len(outcome.body) > 100_000 and outcome.status in _REFUSED:
        yield "error", f"tells the client its own request: {len(outcome.body)} bytes"


def _wrong_message(what: str, message: Any) -> Iterator[Wrong]:
    """A message that was taken, and is another one when it is printed and read again, here or by protobuf."""
    try:
        printed = protojson.dumps(protojson.message_printer(message.DESCRIPTOR)(message))
    except protojson.Unprintable as error:
        yield "round trip", f"a {what} that was accepted has no JSON: {error}"
        return
    again = message_factory.GetMessageClass(message.DESCRIPTOR)()
    try:
        protojson.message_reader(message.DESCRIPTOR)(protojson.loads(printed), again, MAX_DEPTH)
    except ValueError as error:
        yield "round trip", f"what was printed of a {what} is refused: {error}: {printed[:300]!r}"
        return
    if not _same(message, again):
        yield "round trip", f"a {what} is read back as another: {printed[:300]!r}"
    theirs = message_factory.GetMessageClass(message.DESCRIPTOR)()
    try:
        json_format.Parse(printed, theirs)
    except json_format.ParseError as error:
        if "too deep" not in str(error):
            yield "differs from protobuf", f"which refuses what was printed: {error}: {printed[:300]!r}"
        return
    if not _same(message, theirs):
        yield "differs from protobuf", f"which reads what was printed as another {what}: {printed[:300]!r}"


def _different_reading(request: Request, made: Made) -> Iterator[Wrong]:
    """A body that both accept, and take for different messages."""
    if not request.body:
        return
    theirs = message_factory.GetMessageClass(made.request.DESCRIPTOR)()
    try:
        json_format.Parse(request.body, theirs)
    except (json_format.ParseError, RecursionError, UnicodeDecodeError, ValueError, OverflowError, TypeError):
        return  # theirs to answer for; what is stricter here is tested where it is
    if not _same(made.request, theirs):
        yield "differs from protobuf", f"the body {request.body[:300]!r} was read as {str(made.request)[:300]}"


def _same(one: Any, other: Any) -> bool:
    """Whether two messages are equal; NaN counts as NaN, and the bytes in an Any as the message that they are."""
    if one == other or one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True):
        return True
    try:
        return bool(json_format.MessageToDict(one) == json_format.MessageToDict(other))
    except (ValueError, TypeError, json_format.Error):
        return False


def _no_number(name: str) -> None:
    raise ValueError(name)
