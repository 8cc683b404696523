"""What can go wrong for a reason that the caller should know: one small tree, raised by domains and use cases.

Each error knows its gRPC code and the google.rpc details that say precisely what is wrong. `boundary.py` is the one
place that turns them into a status; whatever else is raised reaches callers as INTERNAL without a word about its cause.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import ClassVar

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2 as rpc

DOMAIN = "shop"
"""The `domain` of every ErrorInfo: whose vocabulary the reasons are."""


class DomainError(Exception):
    """Base of the tree. `reason` is a constant for programs, in capitals; `message` is for people."""

    code: ClassVar[grpc.StatusCode]
    default_reason: ClassVar[str]

    def __init__(self, message: str, *, reason: str = "", metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.metadata = dict(metadata or {})

    def details(self) -> list[Message]:
        """The google.rpc messages of the status, most specific first."""
        return [*self.specifics(), rpc.ErrorInfo(reason=self.reason, domain=DOMAIN, metadata=self.metadata)]

    def specifics(self) -> list[Message]:
        """The details that only this kind of error has."""
        return []


class InvalidArgument(DomainError):
    """Fields of the request are wrong: `violations` are pairs of a field's path and what is wrong with it."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    default_reason = "INVALID_ARGUMENT"

    def __init__(self, violations: Iterable[tuple[str, str]], *, reason: str = "") -> None:
        self.violations = tuple(violations)
        message = "; ".join(f"{path}: {what}" if path else what for path, what in self.violations)
        super().__init__(message, reason=reason)

    @classmethod
    def of(cls, field: str, description: str) -> InvalidArgument:
        """One wrong field."""
        return cls([(field, description)])

    def specifics(self) -> list[Message]:
        violations = [rpc.BadRequest.FieldViolation(field=path, description=what) for path, what in self.violations]
        return [rpc.BadRequest(field_violations=violations)]


class NotFound(DomainError):
    """There is no `kind` (say "user") with that id."""

    code = grpc.StatusCode.NOT_FOUND
    default_reason = "NOT_FOUND"

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"there is no {kind} {name!r}", metadata={"kind": kind})
        self.kind, self.name = kind, name

    def specifics(self) -> list[Message]:
        return [rpc.ResourceInfo(resource_type=self.kind, resource_name=self.name, description=self.message)]


class AlreadyExists(DomainError):
    """Another `kind` has the same value in `field`, which must be unique."""

    code = grpc.StatusCode.ALREADY_EXISTS
    default_reason = "ALREADY_EXISTS"

    def __init__(self, kind: str, field: str, value: str) -> None:
        super().__init__(f"{field} is taken by another {kind}", metadata={"kind": kind, "field": field})
        self.kind, self.field, self.value = kind, field, value

    def specifics(self) -> list[Message]:
        taken = rpc.BadRequest.FieldViolation(field=self.field, description="is taken")
        return [
            rpc.ResourceInfo(resource_type=self.kind, resource_name=self.value, description=self.message),
            rpc.BadRequest(field_violations=[taken]),
        ]


class FailedPrecondition(DomainError):
    """The state of things forbids it, for now. `kind` ("STOCK") and `subject` ("product/42") say of what."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    default_reason = "FAILED_PRECONDITION"

    def __init__(self, kind: str, subject: str, description: str, *, reason: str = "") -> None:
        super().__init__(description, reason=reason, metadata={"subject": subject})
        self.kind, self.subject = kind, subject

    def specifics(self) -> list[Message]:
        violation = rpc.PreconditionFailure.Violation(type=self.kind, subject=self.subject, description=self.message)
        return [rpc.PreconditionFailure(violations=[violation])]


class Aborted(DomainError):
    """It changed meanwhile (an etag does not match): read again, then try again."""

    code = grpc.StatusCode.ABORTED
    default_reason = "CONFLICT"

    def __init__(self, kind: str, name: str, description: str = "") -> None:
        super().__init__(description or f"{kind} {name!r} has changed since it was read", metadata={"kind": kind})
        self.kind, self.name = kind, name

    def specifics(self) -> list[Message]:
        return [rpc.ResourceInfo(resource_type=self.kind, resource_name=self.name, description=self.message)]


class ResourceExhausted(DomainError):
    """A bound is reached; `subject` says which, and `retry_after` when it will be no more, if that is known."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    default_reason = "RESOURCE_EXHAUSTED"

    def __init__(
        self, subject: str, description: str, *, reason: str = "", retry_after: timedelta | None = None
    ) -> None:
        super().__init__(description, reason=reason, metadata={"subject": subject})
        self.subject = subject
        self.retry_after = retry_after

    def specifics(self) -> list[Message]:
        violation = rpc.QuotaFailure.Violation(subject=self.subject, description=self.message)
        details: list[Message] = [rpc.QuotaFailure(violations=[violation])]
        if self.retry_after is not None:
            wait = Duration()
            wait.FromTimedelta(self.retry_after)
            details.append(rpc.RetryInfo(retry_delay=wait))
        return details


class Unauthenticated(DomainError):
    """It is not known who is calling, or what was shown as proof is wrong."""

    code = grpc.StatusCode.UNAUTHENTICATED
    default_reason = "UNAUTHENTICATED"


class PermissionDenied(DomainError):
    """It is known who is calling, and they may not."""

    code = grpc.StatusCode.PERMISSION_DENIED
    default_reason = "PERMISSION_DENIED"


class OutOfRange(DomainError):
    """What was asked for lies beyond what is kept."""

    code = grpc.StatusCode.OUT_OF_RANGE
    default_reason = "OUT_OF_RANGE"


class Unavailable(DomainError):
    """Something that this service needs is away; the same call may succeed later."""

    code = grpc.StatusCode.UNAVAILABLE
    default_reason = "UNAVAILABLE"


class SharedOutage(Unavailable):
    """What is away is shared by all instances: another would say the same as late, so no client is to retry."""


class DeadlineExceeded(DomainError):
    """The caller's time was not enough."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    default_reason = "DEADLINE_EXCEEDED"
