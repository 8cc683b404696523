"""The gRPC service config: how the owner of a service wants it called, in gRPC's standard JSON, checked and parsed.

    {"methodConfig": [{"name": [{"service": "shop.product.v1.ProductService", "method": "GetProduct"}],
                       "timeout": "1.5s",
                       "retryPolicy": {"maxAttempts": 4, "initialBackoff": "0.05s", "maxBackoff": "1s",
                                       "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}],
     "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}}

The rules are those of gRFC A6, A17 and A21 and of grpc/service_config/service_config.proto. gRFC A21: fields that are
not known are ignored, and one known field that is wrong makes the whole config invalid. Nothing here acts on a config;
it only says what is in it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any

from grpc import StatusCode

from grpc_registry.service_config.balancing import POLICIES, balancing, old_policy
from grpc_registry.service_config.json_fields import (
    Fields,
    InvalidServiceConfig,
    boolean,
    duration,
    integer,
    items,
    load,
    positive,
    positive_duration,
    text,
    wrong,
)
from grpc_registry.service_config.model import (
    Balancing,
    HedgingPolicy,
    MethodConfig,
    RetryPolicy,
    RetryThrottling,
    ServiceConfig,
)

MAX_ATTEMPTS = 5
"""gRFC A6: "Values greater than 5 are treated as 5 without being considered a validation error"."""

_BY_NUMBER = {code.value[0]: code for code in StatusCode}
_BY_NAME = {code.name: code for code in StatusCode}


def parse(config: Mapping[str, Any] | str, policies: Collection[str] = POLICIES) -> ServiceConfig:
    """Check a service config and take it apart.

    Args:
        config: JSON text, or what `json.loads` makes of it.
        policies: the names of all balancing policies, for `loadBalancingConfig`.

    Raises:
        InvalidServiceConfig: it is no JSON object, or a known field of it is wrong.
    """
    fields = Fields(load(config) if isinstance(config, str) else config, "")
    chosen = fields.get("loadBalancingConfig", lambda value, path: balancing(value, path, policies))
    if chosen is None:  # service_config.proto: "the former will be used only if the latter is unset"
        chosen = fields.get("loadBalancingPolicy", lambda value, path: old_policy(value, path, policies))
    return ServiceConfig(
        methods=fields.get("methodConfig", _methods) or {},
        balancing=chosen,
        throttling=fields.get("retryThrottling", _throttling),
        health_service=fields.get("healthCheckConfig", _health_service),
    )


def parse_balancing(entry: Mapping[str, Any], policies: Collection[str] = POLICIES) -> Balancing:
    """Check one entry of a `loadBalancingConfig`, like `{"ring_hash": {"requestHashHeader": "x-user"}}`.

    Raises:
        InvalidServiceConfig: it is none, or of no policy in `policies`.
    """
    return balancing([entry], "loadBalancingConfig", policies)


def _methods(value: Any, path: str) -> dict[str, MethodConfig]:
    methods: dict[str, MethodConfig] = {}
    named: dict[str, str] = {}
    for entry, entry_path in items(value, path):
        config = _method(entry, entry_path)
        # service_config.proto: "MethodConfig without names (empty list) will be skipped"
        for name, name_path in Fields(entry, entry_path).get("name", items) or ():
            key = _key(name, name_path)
            if key in named:  # service_config.proto: "Each name entry must be unique across the entire ServiceConfig"
                raise InvalidServiceConfig(name_path, f"names the same as {named[key]}")
            named[key] = name_path
            methods[key] = config
    return methods


def _key(value: Any, path: str) -> str:
    # service_config.proto: 'value "", value `null`, and not present are the same'
    fields = Fields(value, path)
    service = fields.get("service", text)
    method = fields.get("method", text)
    if method and not service:
        raise InvalidServiceConfig(path, f"has the method {method!r} without its service")
    return f"/{service}/{method or ''}" if service else ""


def _method(value: Any, path: str) -> MethodConfig:
    fields = Fields(value, path)
    config = MethodConfig(
        timeout=fields.get("timeout", duration),
        wait_for_ready=fields.get("waitForReady", boolean),
        retry=fields.get("retryPolicy", _retry),
        hedging=fields.get("hedgingPolicy", _hedging),
    )
    if config.retry and config.hedging:
        raise InvalidServiceConfig(path, "has both a retryPolicy and a hedgingPolicy, of which only one may be set")
    return config


def _retry(value: Any, path: str) -> RetryPolicy:
    fields = Fields(value, path)
    return RetryPolicy(
        max_attempts=min(fields.need("maxAttempts", integer(2)), MAX_ATTEMPTS),
        initial_backoff=fields.need("initialBackoff", positive_duration),
        max_backoff=fields.need("maxBackoff", positive_duration),
        backoff_multiplier=fields.need("backoffMultiplier", positive),
        codes=fields.need("retryableStatusCodes", _at_least_one_code),
    )


def _hedging(value: Any, path: str) -> HedgingPolicy:
    fields = Fields(value, path)
    return HedgingPolicy(
        max_attempts=min(fields.need("maxAttempts", integer(2)), MAX_ATTEMPTS),
        delay=fields.get("hedgingDelay", duration) or 0.0,
        codes=fields.get("nonFatalStatusCodes", _codes) or frozenset(),
    )


def _codes(value: Any, path: str) -> frozenset[StatusCode]:
    return frozenset(_code(item, item_path) for item, item_path in items(value, path))


def _at_least_one_code(value: Any, path: str) -> frozenset[StatusCode]:
    codes = _codes(value, path)
    if not codes:
        raise InvalidServiceConfig(path, "must name at least one status code")
    return codes


def _code(value: Any, path: str) -> StatusCode:
    # gRFC A6: "specified in the integer form or the case-insensitive string form"
    code = None
    if isinstance(value, str):
        code = _BY_NAME.get(value.upper())
    elif isinstance(value, int) and not isinstance(value, bool):
        code = _BY_NUMBER.get(value)
    if code is None:
        raise wrong(value, path, "the name or the number of a gRPC status code")
    return code


def _throttling(value: Any, path: str) -> RetryThrottling:
    fields = Fields(value, path)
    return RetryThrottling(
        max_tokens=fields.need("maxTokens", integer(1, 1000)), token_ratio=fields.need("tokenRatio", _token_ratio)
    )


def _token_ratio(value: Any, path: str) -> float:
    # gRFC A6: "Decimal places beyond 3 are ignored. (eg. 0.5466 is treated as 0.546.)" The decimals are those that were
    # written: 0.57 is not quite 0.57 in binary, and must not become 0.569.
    thousandths = int(Decimal(repr(positive(value, path))).scaleb(3))
    if not thousandths:
        raise wrong(value, path, "at least 0.001 (further decimals are ignored)")
    return thousandths / 1000


def _health_service(value: Any, path: str) -> str | None:
    return Fields(value, path).get("serviceName", text)
