"""The services behind the transcoder: channels that answer at once, with what follows from the request alone."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Self

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.rpc import status_pb2

from fuzzing.messages import filled

Metadata = Sequence[tuple[str, str | bytes]]

_ECHOED = ("Echo", "Patch")
_CODES = {code.value[0]: code for code in grpc.StatusCode if code is not grpc.StatusCode.OK}
_KEY = re.compile(r"[0-9a-z_.-]+")
_TEXT = re.compile(r"[ -~]*")


@dataclass(slots=True)
class Made:
    """A call that the transcoder made: what it sent, and how it was answered."""

    path: str
    request: Any
    metadata: Metadata
    timeout: float | None
    responses: Sequence[Any] = ()
    failed: grpc.aio.AioRpcError | None = None
    ended: bool = False

    def wrong_metadata(self) -> str | None:
        """What real gRPC would refuse in the metadata, if anything."""
        for key, value in self.metadata:
            if not isinstance(key, str) or not _KEY.fullmatch(key):
                return f"the key {key!r}"
            if not isinstance(value, bytes if key.endswith("-bin") else str):
                return f"{key} with a value of type {type(value).__name__}"
            if isinstance(value, str) and not _TEXT.fullmatch(value):
                return f"{key}: {value!r}"
        return None


class Backend:
    """Makes the channels, and remembers the calls made since `forget`.

    Echo and Patch of the zoo return the request, Fail fails as it is told to. Every other RPC answers with messages
    that its request is the seed of; a stream may fail after some.
    """

    def __init__(self) -> None:
        self.made: list[Made] = []

    def forget(self) -> None:
        """Remember no calls."""
        self.made.clear()

    def channel(self, service: ServiceDescriptor) -> Any:
        """What looks like a `grpc.aio.Channel` to `service`, as far as the transcoder looks."""
        return _Channel(self, service)

    def begin(self, made: Made, rpc: MethodDescriptor) -> None:
        """Decide on the answer to a call that has just been made."""
        self.made.append(made)
        rng = Random(made.request.SerializeToString(deterministic=True))
        if rpc.name == "Fail":
            made.failed = _asked_for(made.request)
        elif rpc.name in _ECHOED:
            made.responses = [made.request]
        elif not rpc.server_streaming:
            made.responses = [filled(rng, rpc.output_type)]
        else:
            made.responses = [filled(rng, rpc.output_type) for _ in range(rng.randrange(4))]
            if rng.random() < 0.3:
                made.failed = _error(grpc.StatusCode.UNAVAILABLE, "it broke off", ())


def _asked_for(request: Any) -> grpc.aio.AioRpcError:
    code = _CODES.get(request.code, grpc.StatusCode.UNKNOWN)
    status = status_pb2.Status(code=request.code, message=request.message, details=request.details)
    return _error(code, request.message, (("grpc-status-details-bin", status.SerializeToString()), ("last", "word ")))


def _error(code: grpc.StatusCode, details: str, trailers: Metadata) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), details)


class _Channel:
    def __init__(self, backend: Backend, service: ServiceDescriptor) -> None:
        self._backend = backend
        self._rpcs = {f"/{service.full_name}/{rpc.name}": rpc for rpc in service.methods}

    def unary_unary(self, path: str, request_serializer: Any, response_deserializer: Any) -> Callable[..., Any]:
        return self._callable(path, request_serializer, response_deserializer)

    unary_stream = unary_unary

    def _callable(self, path: str, serialize: Any, deserialize: Any) -> Callable[..., Any]:
        rpc = self._rpcs[path]

        def call(request: Any, *, timeout: float | None = None, metadata: Metadata = (), **_more: Any) -> Any:
            made = Made(path, request, tuple(metadata or ()), timeout)
            serialize(request)  # as gRPC does, which fails if it cannot
            self._backend.begin(made, rpc)
            answers = [deserialize(response.SerializeToString()) for response in made.responses]
            return _Stream(made, answers) if rpc.server_streaming else _Unary(made, answers)

        return call


class _Call:
    """What all calls have. They are given a turn of the event loop before they answer, as real ones are."""

    def __init__(self, made: Made, answers: Sequence[Any]) -> None:
        self._made = made
        self._answers = answers
        self._cancelled = False

    def cancel(self) -> bool:
        first = not self._made.ended
        self._made.ended = self._cancelled = True
        return first

    def cancelled(self) -> bool:
        return self._cancelled

    def done(self) -> bool:
        return self._made.ended

    async def initial_metadata(self) -> Metadata:
        return (("seen", "yes"), ("raw-bin", b"\x00\xff"))

    async def trailing_metadata(self) -> Metadata:
        return (("last", " word "),)

    async def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.OK if self._made.failed is None else self._made.failed.code()

    async def details(self) -> str:
        return "" if self._made.failed is None else self._made.failed.details() or ""

    async def wait_for_connection(self) -> None:
        return


class _Unary(_Call):
    def __await__(self) -> Generator[None, None, Any]:
        yield
        self._made.ended = True
        if self._made.failed is not None:
            raise self._made.failed
        return self._answers[0]


class _Stream(_Call):
    def __init__(self, made: Made, answers: Sequence[Any]) -> None:
        super().__init__(made, answers)
        self._next = self._responses()

    def __aiter__(self) -> Self | AsyncIterator[Any]:
        return self._next

    async def read(self) -> Any:
        return await anext(self._next, grpc.aio.EOF)

    async def _responses(self) -> AsyncIterator[Any]:
        for answer in self._answers:
            await _turn()
            yield answer
        self._made.ended = True
        if self._made.failed is not None:
            raise self._made.failed


class _Turn:
    def __await__(self) -> Generator[None, None, None]:
        yield


async def _turn() -> None:
    await _Turn()
