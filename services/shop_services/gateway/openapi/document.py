"""The OpenAPI document as a whole: paths, parameters, bodies and answers of all rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor

from shop_services.gateway.fields import FieldPath, takes_text
from shop_services.gateway.framing import NDJSON, SSE
from shop_services.gateway.httpbody import raw_request, raw_response
from shop_services.gateway.openapi.comments import Comments
from shop_services.gateway.openapi.constraints import required_fields
from shop_services.gateway.openapi.failures import error_schema
from shop_services.gateway.openapi.paths import PathParameter, Paths
from shop_services.gateway.openapi.schemas import Schema, Schemas
from shop_services.gateway.openapi.security import SCHEMES, required_of, said_of
from shop_services.gateway.openapi.statuses import Statuses
from shop_services.gateway.protojson.wellknown import is_special
from shop_services.gateway.rules import WHOLE, Rule, rules_of
from shop_services.runtime.identity.rules import rule_in

_METHODS = frozenset({"GET", "PUT", "POST", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"})
_INTRODUCTION = """\
gRPC services as HTTP and JSON. Names are lowerCamelCase, and those of the .proto files are taken too; 64-bit integers
are strings, and numbers are taken too. An error has a `google.rpc.Status` as its body: its `code` is gRPC's, and its
`details` say precisely what is wrong.

Whoever is asked for a token sends it as `Authorization: Bearer …`. Any request may have `X-Request-Id`, which comes
back and is in the logs; `Grpc-Timeout`, such as `500m` for half a second; and `Grpc-Metadata-*` for the services."""
_REST = "It may have several segments: their slashes are sent as they are, not as %2F."
_EVENTS = (
    "Server-sent events: one without a name has a message as its data; `error` has a google.rpc.Status, `end` nothing."
)


def make_document(
    services: Iterable[ServiceDescriptor], comments: Comments, *, title: str, version: str
) -> dict[str, Any]:
    """The OpenAPI 3.1 document of what a `Transcoder` of the same services answers.

    RPCs whose requests stream are not in it: HTTP does not serve them.

    Raises:
        InvalidRule: what the protos say about who may call makes no sense.
    """
    builder = _Builder(comments)
    tags = []
    for service in services:
        rules = [rule for rule in rules_of(service) if rule.method in _METHODS and not rule.rpc.client_streaming]
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
            "responses": builder.statuses.components,
            "securitySchemes": SCHEMES,
        },
    }


class _Builder:
    def __init__(self, comments: Comments) -> None:
        self.schemas = Schemas(comments)
        self.paths: dict[str, dict[str, Any]] = {}
        self._error = error_schema(self.schemas)
        self.statuses = Statuses(self._error)
        self._comments = comments
        self._names = Paths()

    def add(self, rule: Rule) -> None:
        path, parameters = self._names.of(rule.template)
        comment = self._comments.of(rule.rpc.full_name)
        in_path = [
            {"name": parameter.name, "in": "path", "required": True} | self._path_parameter(rule, parameter)
            for parameter in parameters
        ]
        access = rule_in(rule.rpc)
        service = rule.rpc.containing_service.name
        operation: dict[str, Any] = {
            "operationId": f"{service}_{rule.rpc.name}" + (f"_{rule.number + 1}" if rule.number else ""),
            "tags": [service],
            "summary": _first_sentence(comment) or rule.rpc.name,
            **_described("\n\n".join(filter(None, (comment, said_of(access))))),
            "parameters": [*in_path, *self._query(rule)],
            "responses": {"200": self._answer(rule), **self.statuses.of(rule, comment, access)},
            **required_of(access),
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
        if raw_request(rule) is not None:
            return {"required": False, "content": {"*/*": {"schema": {}}}}
        if isinstance(rule.body, FieldDescriptor):
            schema = self.schemas.field(rule.body)
            required = rule.body.name in required_fields(message)
            return {"required": required, **_described(schema.pop("description", "")), "content": _json(schema)}
        in_path = {path[0].name for path in rule.bound if len(path) == 1}
        schema = self.schemas.object(message, without=in_path) if in_path else self.schemas.message(message)
        return {"required": bool(required_fields(message) - in_path), "content": _json(schema)}

    def _answer(self, rule: Rule) -> Schema:
        message = rule.rpc.output_type
        description = self._comments.of(message.full_name) or "The answer."
        return {"description": description, "content": self._answer_content(rule)}

    def _answer_content(self, rule: Rule) -> Schema:
        if raw_response(rule) is not None:
            return {"*/*": {"schema": {}}}
        message = rule.rpc.output_type
        schema = self.schemas.message(message) if rule.response_body is None else self.schemas.field(rule.response_body)
        if not rule.rpc.server_streaming:
            return _json(schema)
        line = {
            "description": "Each line is one of these: a message, or as the last one what ended the stream too early.",
            "oneOf": [_envelope("result", schema), _envelope("error", self._error)],
        }
        events = {"type": "string", "description": _EVENTS}
        return {NDJSON.content_type: {"schema": line}, SSE.content_type: {"schema": events}}


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


def _envelope(name: str, schema: Schema) -> Schema:
    return {"type": "object", "properties": {name: schema}, "required": [name], "additionalProperties": False}


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
