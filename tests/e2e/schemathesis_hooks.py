"""What schemathesis is told beyond the document: things that exist in the shop, and what the lines of a stream are.

`st run` loads this by SCHEMATHESIS_HOOKS. KNOWN in its environment has the things, as JSON: values for the parameters
of paths, and for an operation a query, or the fields of a body, that it takes. Every second request gets them in place
of what was made up, since a made-up id is almost never one that exists, and a made-up price almost never a price.
"""

from __future__ import annotations

import json
import os
from typing import Any
from zlib import crc32

import schemathesis
from jsonschema import Draft202012Validator
from schemathesis import Case, CheckContext, HookContext, Response

_KNOWN: dict[str, Any] = json.loads(os.environ["KNOWN"])
_LINES = "application/x-ndjson"
# Parameters that refer to something that a request before returned, or that only some operations can do with.
_REFERRING = ("pageToken", "etag", "requestId", "afterRevision", "updateMask")


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Put what exists into every second request, and an early end to every stream."""
    if case.path.endswith(":watch"):
        case.headers["Grpc-Timeout"] = "200m"
    _keep_known(case)
    made_up = repr((case.method, case.path, case.path_parameters, case.query, case.body))
    if crc32(made_up.encode(errors="replace")) % 2 and case.method != "DELETE":
        _put_known(case)


def _keep_known(case: Case[Any]) -> None:
    """Let nobody end what later requests need: it is made up of what answers showed, and by chance of these things."""
    if case.method == "DELETE":
        for name in ("user_id", "product_id"):
            if (value := case.path_parameters.get(name)) == _KNOWN["paths"][name]:
                case.path_parameters[name] = f"not-{value}"
    reserving = "InventoryService_ReserveStock"
    if case.operation.definition.raw["operationId"] != reserving and isinstance(case.body, dict):
        reserved = _KNOWN["bodies"][reserving]["orderId"]
        if case.body.get("orderId") == reserved:
            case.body = {**case.body, "orderId": f"not-{reserved}"}


def _put_known(case: Case[Any]) -> None:
    operation = case.operation.definition.raw["operationId"]
    for name in case.path_parameters:
        if name in _KNOWN["paths"]:
            case.path_parameters[name] = _KNOWN["paths"][name]
    for name in _REFERRING:
        case.query.pop(name, None)
    if operation in _KNOWN["queries"]:
        case.query.update(_KNOWN["queries"][operation])
    if operation in _KNOWN["bodies"] and isinstance(case.body, dict):
        made_up = {} if case.method == "PATCH" else case.body  # all that is in the body of a PATCH is to be changed
        case.body = {**made_up, **_KNOWN["bodies"][operation]}


@schemathesis.deserializer(_LINES)
def lines(context: Any, response: Response) -> Any:
    """The first line, which schemathesis then looks at as it looks at any answer."""
    return json.loads(response.content.splitlines()[0])


@schemathesis.check
def every_line(context: CheckContext, response: Response, case: Case[Any]) -> bool | None:
    """Each line of a stream keeps to the schema of lines, and none comes after an error."""
    if response.headers.get("content-type", [""])[0] != _LINES:
        return None
    document = case.operation.schema.raw_schema
    schema = case.operation.definition.raw["responses"]["200"]["content"][_LINES]["schema"]
    validator = Draft202012Validator({**schema, "components": document["components"]})
    found = [json.loads(line) for line in response.content.splitlines()]
    for line in found:
        validator.validate(line)
    assert all("error" not in line for line in found[:-1])
    return None
