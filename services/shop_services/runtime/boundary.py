"""The one place where exceptions become statuses. Keep it inside of tracing and logging, which then see the status."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import structlog
from google.rpc import status_pb2

from grpc_balancer.retry import PUSHBACK
from shop_services.runtime.context import current, new_request_id
from shop_services.runtime.errors import DeadlineExceeded, DomainError, SharedOutage, Unavailable
from shop_services.runtime.interceptor import CallInterceptor, Context, ServedCall
from shop_services.runtime.status import DETAILS_KEY, make_status, status_of

_log = structlog.get_logger(__name__)

_NO_RETRY = (PUSHBACK, "-1")  # gRFC A6: "If the value for pushback is negative […], no retry"
_LATE = grpc.StatusCode.DEADLINE_EXCEEDED
_AWAY = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,  # by a server that stops; our own cancellations are no `AioRpcError`
)


class ErrorBoundary(CallInterceptor):
    """Ends a call whose servicer raised with the status that the exception stands for.

    A `DomainError` has a code and details of its own. A failed call to another service that nobody handled is
    UNAVAILABLE or DEADLINE_EXCEEDED where the other was away or late. Anything else is a defect: it is logged with its
    traceback, and the caller is told no more than INTERNAL and the request id to ask about.
    """

    @asynccontextmanager
    async def around(self, call: ServedCall) -> AsyncIterator[None]:
        try:
            yield
        except DomainError as error:
            await _abort(call.context, error)
        except grpc.aio.AioRpcError as error:
            if error.code() is _LATE:
                await _abort(call.context, DeadlineExceeded("a call to another service took too long"))
            if error.code() in _AWAY:
                _log.warning("dependency_unavailable", code=error.code().name, details=error.details())
                await _abort(call.context, Unavailable("a service that is needed here is not available"))
            await _defect(call.context, error)
        except grpc.aio.AbortError:
            raise  # the servicer ended the call itself
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # the caller left, or its deadline has passed
            await _defect(call.context, error)  # something inside was cancelled; grpc.aio would leave the call open
        except NotImplementedError as error:
            if call.context.code() is not grpc.StatusCode.UNIMPLEMENTED:
                await _defect(call.context, error)
            raise  # a generated method that nobody overrode: grpc.aio sends the code that it has set
        except Exception as error:
            await _defect(call.context, error)


def _request_id() -> str:
    serving = current()
    return serving.request_id if serving else new_request_id()


async def _defect(context: Context, error: BaseException) -> None:
    _log.error("unhandled_exception", exc_info=error)
    request_id = _request_id()
    message = f"internal error; request id {request_id}"
    await _end(context, grpc.StatusCode.INTERNAL, make_status(grpc.StatusCode.INTERNAL, message, [], request_id))


async def _abort(context: Context, error: DomainError) -> None:
    more = (_NO_RETRY,) if isinstance(error, SharedOutage) else ()
    await _end(context, error.code, status_of(error, _request_id()), more)


async def _end(
    context: Context, code: grpc.StatusCode, status: status_pb2.Status, more: Sequence[tuple[str, str]] = ()
) -> None:
    trailers = [*(context.trailing_metadata() or ()), *more, (DETAILS_KEY, status.SerializeToString())]
    try:
        await context.abort(code, status.message, tuple(trailers))
    except grpc.aio.InternalError:
        # grpc.aio's word for: nobody is there to be told. What is logged should be that the caller left.
        raise asyncio.CancelledError from None
