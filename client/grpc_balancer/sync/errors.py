"""How a blocking call fails: one exception that is a `grpc.RpcError`, a `grpc.Call` and a done `grpc.Future`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Literal, NamedTuple

import grpc
from grpc import StatusCode
from grpc.aio import AioRpcError


class Metadatum(NamedTuple):
    """An entry of metadata, with names, as grpc's own have."""

    key: str
    value: str | bytes


Metadata = tuple[Metadatum, ...]


def metadata_of(entries: Iterable[Any] | None) -> Metadata:
    """grpc.aio's metadata in the shape of grpc's."""
    return tuple(Metadatum(key, value) for key, value in entries or ())


class CallError(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]  # generic in the stubs alone
    """A call ended with a status other than OK.

    It is a finished call and a finished future too, as interceptors expect (they are handed it as such), and can be
    pickled, as Celery and multiprocessing do.
    """

    def __init__(
        self,
        code: StatusCode,
        details: str = "",
        initial_metadata: Metadata = (),
        trailing_metadata: Metadata = (),
        debug_error_string: str = "",
    ) -> None:
        super().__init__(code, details, initial_metadata, trailing_metadata, debug_error_string)
        self._code = code
        self._details = details
        self._initial_metadata = initial_metadata
        self._trailing_metadata = trailing_metadata
        self._debug_error_string = debug_error_string

    @classmethod
    def of(cls, error: AioRpcError) -> CallError:
        """The same error as grpc.aio tells it."""
        initial, trailing = metadata_of(error.initial_metadata()), metadata_of(error.trailing_metadata())
        return cls(error.code(), error.details() or "", initial, trailing, error.debug_error_string() or "")

    def again(self) -> CallError:
        """A copy to raise: what is raised collects tracebacks, and may be raised in many threads."""
        copy = CallError(*self.args)
        copy.__cause__ = self.__cause__
        return copy

    # grpc.Call

    def code(self) -> StatusCode:
        return self._code

    def details(self) -> str:
        return self._details

    def initial_metadata(self) -> Metadata:
        return self._initial_metadata

    def trailing_metadata(self) -> Metadata:  # type: ignore[override]
        return self._trailing_metadata

    def debug_error_string(self) -> str:
        """What gRPC knows beyond the details."""
        return self._debug_error_string

    def is_active(self) -> bool:
        return False

    def time_remaining(self) -> None:  # type: ignore[override]  # the stubs leave out that it may be None
        return None

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return False

    # grpc.Future

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False

    def running(self) -> Literal[False]:
        return False

    def done(self) -> Literal[True]:
        return True

    def result(self, timeout: float | None = None) -> Any:
        raise self

    def exception(self, timeout: float | None = None) -> CallError:
        return self

    def traceback(self, timeout: float | None = None) -> TracebackType | None:
        return self.__traceback__

    def add_done_callback(self, fn: Callable[[grpc.Future[Any]], None]) -> None:
        fn(self)

    def __str__(self) -> str:
        lines = [f"status = {self._code}", f'details = "{self._details}"']
        if self._debug_error_string:
            lines.append(f'debug_error_string = "{self._debug_error_string}"')
        return "<CallError of RPC that terminated with:\n\t" + "\n\t".join(lines) + "\n>"

    __repr__ = __str__
