"""The OpenAPI document as a whole: paths, parameters, bodies and answers of all rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor
from google.rpc import status_pb2

from shop_services.gateway.fields import FieldPath, takes_text
from shop_services.gateway.openapi.comments import Comments
from shop_services.gateway.openapi.constraints import required_fields
from shop_services.gateway.openapi.paths import PathParameter, Paths
from shop_services.gateway.openapi.schemas import Schema, Schemas
from shop_services.gateway.protojson.wellknown import is_special
from shop_services.gateway.rules import WHOLE, Rule, rules_of

_METHODS = frozenset({"GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"})
_INTRODUCTION = (
    "gRPC services as HTTP and JSON. Names are lowerCamelCase, and those of the .proto files are taken too; 64-bit "
    "integers are strings, and numbers are taken too. An error has a `google.rpc.Status` as its body: its `code` is "
    "gRPC's, and its `details` say precisely what is wrong."
)
_REST = "It may have several segments: their slashes are sent as they are, not as %2F."
_ERROR = "An error: `code` is a google.rpc.Code, `message` is for people, `details` are for programs."


def make_document(
    services: Iterable[ServiceDescriptor], comments: Comments, *, title: str, version: str
) -> dict[str, Any]:
    """The OpenAPI 3.1 document of what a `Transcoder` of the same services answers. RPCs that stream are not in it."""
    builder = _Builder(comments)
    tags = []
    for service in services:
        rules = [rule for rule in rules_of(service) if rule.method in _METHODS and not rule.streams]
        if rules:
            tags.append({"name": service.name} | _described(comments.of(service.full_name)))
        for rule in rules:
            builder.add(rule)
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": version, "description": _INTRODUCTION},
        "servers": [{"url": "/"}],
        "tags": tags,
        "paths": builder.paths,
        "components": {
            "schemas": dict(sorted(builder.schemas.components.items())),
            "responses": {"Error": {"description": _ERROR, "content": _json(builder.error)}},
        },
    }


class _Builder:
    def __init__(self, comments: Comments) -> None:
        self.schemas = Schemas(comments)
        self.paths: dict[str, dict[str, Any]] = {}
        self.error = self.schemas.message(status_pb2.Status.DESCRIPTOR)
        self._comments = comments
        self._names = Paths()

    def add(self, rule: Rule) -> None:
        path, parameters = self._names.of(rule.template)
        comment = self._comments.of(rule.rpc.full_name)
        in_path = [
            {"name": parameter.name, "in": "path", "required": True} | self._path_parameter(rule, parameter)
            for parameter in parameters
        ]
        service = rule.rpc.containing_service.name
        operation: dict[str, Any] = {
            "operationId": f"{service}_{rule.rpc.name}" + (f"_{rule.number + 1}" if rule.number else ""),
            "tags": [service],
            "summary": _first_sentence(comment) or rule.rpc.name,
            **_described(comment),
            "parameters": [*in_path, *self._query(rule)],
            "responses": {"200": self._answer(rule), "default": {"$ref": "#/components/responses/Error"}},
        }
        if rule.body is not None:
            operation["requestBody"] = self._body(rule)
        self.paths.setdefault(path, {})[rule.method.lower()] = operation

    def _path_parameter(self, rule: Rule, parameter: PathParameter) -> Schema:
        schema: Schema = {"type": "string"}
        if parameter.variable is not None:
            field = rule.bound[parameter.variable][-1]
            if parameter.whole:
                schema = self.schemas.field(field, in_text=True)
            else:
                schema |= _described(self._comments.of(field.full_name))
        result = _split(schema)
        if parameter.rest:
            result["description"] = "\n\n".join(filter(None, (result.get("description"), _REST)))
        return result

    def _query(self, rule: Rule) -> Iterator[Schema]:
        if rule.body == WHOLE:
            return
        required = required_fields(rule.rpc.input_type)
        for path in _leaves(rule.rpc.input_type, ()):
            if path not in rule.bound and path[0] is not rule.body:
                yield {
                    "name": ".".join(field.json_name for field in path),
                    "in": "query",
                    **({"required": True} if len(path) == 1 and path[0].name in required else {}),
                    **_split(self.schemas.field(path[-1], in_text=True)),
                }

    def _body(self, rule: Rule) -> Schema:
        message = rule.rpc.input_type
        if isinstance(rule.body, FieldDescriptor):
            schema = self.schemas.field(rule.body)
            required = rule.body.name in required_fields(message)
            return {"required": required, **_described(schema.pop("description", "")), "content": _json(schema)}
        in_path = {path[0].name for path in rule.bound if len(path) == 1}
        schema = self.schemas.object(message, without=in_path) if in_path else self.schemas.message(message)
        return {"required": bool(required_fields(message) - in_path), "content": _json(schema)}

    def _answer(self, rule: Rule) -> Schema:
        message = rule.rpc.output_type
        schema = self.schemas.message(message) if rule.response_body is None else self.schemas.field(rule.response_body)
        description = self._comments.of(message.full_name) or "The answer."
        return {"description": description, "content": _json(schema)}


def _leaves(message: Descriptor, inside: FieldPath) -> Iterator[FieldPath]:
    """The fields that query parameters can set: into messages, but into each type only once."""
    for field in message.fields:
        inner = field.message_type
        if takes_text(field):
            yield (*inside, field)
        elif inner is None or field.is_repeated or is_special(inner):
            continue
        elif inner not in [outer.message_type for outer in inside]:
            yield from _leaves(inner, (*inside, field))


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


def _split(schema: Schema) -> Schema:
    """A parameter's description stands beside its schema, not in it."""
    return {**_described(schema.pop("description", "")), "schema": schema}


def _described(text: str) -> Schema:
    return {"description": text} if text else {}


def _first_sentence(comment: str) -> str:
    paragraph = " ".join(comment.partition("\n\n")[0].split())
    return paragraph.partition(". ")[0].rstrip(".")
