"""What the `google.api.http` annotations of services say: one `Rule` for each binding of an RPC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor, ServiceDescriptor

from shop_services.gateway.fields import FieldPath, resolve, takes_text
from shop_services.gateway.protojson import FieldError
from shop_services.gateway.templates import InvalidTemplate, Template, parse

WHOLE = "*"
"""A rule's body that stands for all fields which the path does not bind."""


class InvalidRule(ValueError):
    """An annotation cannot be served; the message names the RPC and says why."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to make an RPC over HTTP.

    `bound` has the field of each variable of the template, in their order. `body` is the field that the body holds,
    None if there is no body, or `WHOLE`. `response_body` is the field of the response that is the answer; None: all.
    `number` counts the bindings of the RPC, from 0.
    """

    rpc: MethodDescriptor
    number: int
    method: str
    template: Template
    bound: tuple[FieldPath, ...]
    body: FieldDescriptor | str | None
    response_body: FieldDescriptor | None

    @property
    def path(self) -> str:
        """What gRPC calls the RPC's path."""
        return f"/{self.rpc.containing_service.full_name}/{self.rpc.name}"

    @property
    def streams(self) -> bool:
        """Whether the RPC streams its requests or its responses."""
        return bool(self.rpc.client_streaming or self.rpc.server_streaming)

    def __str__(self) -> str:
        return self.path


def rules_of(service: ServiceDescriptor) -> Iterator[Rule]:
    """The rules of the RPCs of `service` that have any. Raises `InvalidRule`."""
    for rpc in service.methods:
        annotation = rpc.GetOptions().Extensions[annotations_pb2.http]
        if annotation.WhichOneof("pattern") is None:
            continue
        yield _rule(rpc, 0, annotation)
        for number, binding in enumerate(annotation.additional_bindings, 1):
            if binding.additional_bindings:
                raise InvalidRule(f"{rpc.full_name}: an additional binding has bindings of its own")
            yield _rule(rpc, number, binding)


def _rule(rpc: MethodDescriptor, number: int, annotation: Any) -> Rule:
    kind = annotation.WhichOneof("pattern")
    if kind is None:
        raise InvalidRule(f"{rpc.full_name}: an additional binding without a pattern")
    method, text = (
        (annotation.custom.kind, annotation.custom.path)
        if kind == "custom"
        else (kind.upper(), getattr(annotation, kind))
    )
    try:
        template = parse(text)
        bound = tuple(_bound(rpc.input_type, variable.field_path) for variable in template.variables)
        body = annotation.body if annotation.body == WHOLE else _top_level(rpc.input_type, annotation.body, "body")
        response_body = _top_level(rpc.output_type, annotation.response_body, "response_body")
    except (InvalidTemplate, FieldError) as error:
        raise InvalidRule(f"{rpc.full_name}: {error}") from None
    return Rule(rpc, number, method, template, bound, body, response_body)


def _bound(message: Descriptor, path: str) -> FieldPath:
    fields = resolve(message, path)
    if fields[-1].is_repeated or not takes_text(fields[-1]):
        raise FieldError(path, "cannot be in a path: http.proto wants a field that is not repeated, with a simple type")
    return fields


def _top_level(message: Descriptor, name: str, what: str) -> FieldDescriptor | None:
    if not name:
        return None
    if name not in message.fields_by_name:
        raise FieldError(name, f"is named as {what}, but is not a field of {message.full_name}")
    return message.fields_by_name[name]
