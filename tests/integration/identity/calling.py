"""One RPC, called by gRPC or over HTTP, and how it ends: the same words for both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from shop_services.gateway.rules import WHOLE, Rule, rules_of
from shop_services.runtime.status import info_of
from tests.integration.gateway.serving import DEADLINE
from tests.integration.identity.shop import SERVED_BY, SERVICES, Metadata, Shop

OK = "OK"

RPCS: Mapping[str, MethodDescriptor] = {
    f"{service.name}.{rpc.name}": rpc for service in SERVICES for rpc in service.methods
}
"""All RPCs of the shop, as `Service.Method`."""
ROUTES: Mapping[str, Rule] = {
    f"{rule.rpc.containing_service.name}.{rule.rpc.name}": rule for service in SERVICES for rule in rules_of(service)
}
"""Those of them that HTTP serves."""


def served_by(name: str) -> str:
    """The service that serves an RPC."""
    return SERVED_BY[RPCS[name].containing_service.file.package]


async def by_grpc(shop: Shop, name: str, request: Message, metadata: Metadata) -> str:
    """How a call ends: "OK", or its code and reason. A stream is good if its first message is."""
    try:
        await answer_by_grpc(shop, name, request, metadata)
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name} {info_of(error).reason}"
    return OK


async def answer_by_grpc(shop: Shop, name: str, request: Message, metadata: Metadata) -> Any:
    """The response of a call, or the first one of a stream."""
    rpc = RPCS[name]
    channel: Any = shop.channels[served_by(name)]
    make = channel.unary_stream if rpc.server_streaming else channel.unary_unary
    response = message_factory.GetMessageClass(rpc.output_type)
    call = make(
        f"/{rpc.containing_service.full_name}/{rpc.name}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=response.FromString,
    )(request, metadata=metadata, timeout=DEADLINE)
    if not rpc.server_streaming:
        return await call
    first = await call.read()
    call.cancel()
    return first


async def by_http(
    shop: Shop, name: str, request: Message, metadata: Metadata, accept: str = "application/x-ndjson"
) -> str:
    """The same over HTTP, in the words of gRPC; the status of HTTP must be the one that goes with them."""
    method, url, options = as_http(ROUTES[name], request)
    headers = {key: value.strip() for key, value in metadata}
    headers["accept"] = accept if RPCS[name].server_streaming else "application/json"
    async with shop.http.stream(method, url, headers=headers, **options) as response:
        if response.status_code == 200:
            async for _ in response.aiter_bytes():
                break
            return OK
        await response.aread()
        status = response.json()
    code = next(code for code in grpc.StatusCode if code.value[0] == status["code"])
    expected = {"UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404}
    assert response.status_code == expected.get(code.name, response.status_code)
    reasons = [detail["reason"] for detail in status["details"] if "reason" in detail]
    return f"{code.name} {reasons[0] if reasons else ''}"


def as_http(rule: Rule, request: Message) -> tuple[str, str, dict[str, Any]]:
    """The method, the URL and the options of httpx for a request."""
    given = json_format.MessageToDict(request)
    path = rule.template.text
    for variable, fields in zip(rule.template.variables, rule.bound, strict=True):
        value = _taken(given, [field.json_name for field in fields])
        start = path.index("{" + variable.field_path)
        path = f"{path[:start]}{value}{path[path.index('}', start) + 1 :]}"
    if rule.body is None:
        return rule.method, path, {"params": _flat(given)}
    if rule.body == WHOLE:
        return rule.method, path, {"json": given}
    assert isinstance(rule.body, FieldDescriptor)
    body = given.pop(rule.body.json_name, {})
    return rule.method, path, {"json": body, "params": _flat(given)}


def _taken(given: dict[str, Any], path: list[str]) -> str:
    for name in path[:-1]:
        given = given[name]
    return str(given.pop(path[-1]))


def _flat(given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in given.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
