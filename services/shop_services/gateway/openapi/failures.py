"""The schema of errors: a `google.rpc.Status`, and each kind of detail that one of ours may have."""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor
from google.rpc import error_details_pb2, status_pb2

from shop_services.gateway.openapi.schemas import Schema, Schemas

_KINDS = {
    "BadRequest": "Which fields of the request are wrong, as the .proto files spell them, and how.",
    "ErrorInfo": "The reason, as a word that stays the same, for programs to tell errors apart by.",
    "PreconditionFailure": "What has to be otherwise before the same request can succeed.",
    "QuotaFailure": "Which limit was reached.",
    "RequestInfo": "The id of the request, which the logs have too.",
    "ResourceInfo": "Which resource is meant.",
    "RetryInfo": "When to try again.",
}
_FIELDS = {
    "code": "A google.rpc.Code: 3 is INVALID_ARGUMENT, 5 is NOT_FOUND, and so on.",
    "message": "What went wrong, for people to read.",
    "details": "What went wrong, for programs to read.",
}


def error_schema(schemas: Schemas) -> Schema:
    """A reference to the schema of errors, which it adds to `schemas`."""
    kinds = {error_details_pb2.DESCRIPTOR.message_types_by_name[name]: text for name, text in _KINDS.items()}
    for kind, text in kinds.items():
        schemas.components[kind.full_name] = _detail(schemas, kind, text)
    other = {
        "type": "object",
        "description": "A detail of any other type.",
        "properties": {"@type": {"type": "string", "not": {"enum": [_type_url(kind) for kind in kinds]}}},
        "required": ["@type"],
        "additionalProperties": True,
    }
    status = schemas.object(status_pb2.Status.DESCRIPTOR)
    status["description"] = "An error."
    status["required"] = [*_FIELDS]
    for name, description in _FIELDS.items():
        status["properties"][name]["description"] = description
    references = [schemas.reference(kind) for kind in kinds]
    status["properties"]["details"]["items"] = {"anyOf": [*references, other]}
    schemas.components[status_pb2.Status.DESCRIPTOR.full_name] = status
    return schemas.reference(status_pb2.Status.DESCRIPTOR)


def _detail(schemas: Schemas, kind: Descriptor, description: str) -> Schema:
    schema = schemas.object(kind)
    schema["description"] = description
    schema["properties"] = {"@type": {"const": _type_url(kind)}, **schema["properties"]}
    schema["required"] = ["@type"]
    return schema


def _type_url(kind: Descriptor) -> str:
    return f"type.googleapis.com/{kind.full_name}"
