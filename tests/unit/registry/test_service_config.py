"""The service config: each rule of gRFC A6, A17, A21 and service_config.proto, and where an error says it is."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from grpc_registry.service_config import (
    Balancing,
    HedgingPolicy,
    InvalidServiceConfig,
    MethodConfig,
    RetryPolicy,
    RetryThrottling,
    ServiceConfig,
    parse,
)

POLICIES = ("least_outstanding", "round_robin")

RETRY: dict[str, Any] = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
HEDGING: dict[str, Any] = {
    "maxAttempts": 4,
    "hedgingDelay": "0.5s",
    "nonFatalStatusCodes": ["UNAVAILABLE", "INTERNAL", "ABORTED"],
}
IN_RETRY, IN_HEDGING = "methodConfig[0].retryPolicy", "methodConfig[0].hedgingPolicy"


def read(config: Any) -> ServiceConfig:
    return parse(config, POLICIES)


def default(**fields: Any) -> dict[str, Any]:
    """A config with one entry, which is for every method."""
    return {"methodConfig": [{"name": [{}], **fields}]}


def retry(**fields: Any) -> dict[str, Any]:
    """A config whose retry policy is A6's example but for these fields; None leaves one out."""
    return default(retryPolicy={**RETRY, **fields})


def hedging(**fields: Any) -> dict[str, Any]:
    return default(hedgingPolicy={**HEDGING, **fields})


def throttling(tokens: Any, ratio: Any) -> dict[str, Any]:
    return {"retryThrottling": {"maxTokens": tokens, "tokenRatio": ratio}}


def test_a_whole_config_is_read() -> None:
    """Every field of the standard that is known arrives, from a mapping and from its JSON text alike."""
    config = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{"service": "a.B", "method": "C"}],
                "timeout": "1.5s",
                "waitForReady": True,
                "retryPolicy": RETRY,
            },
            {"name": [{"service": "a.D"}], "hedgingPolicy": HEDGING},
        ],
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
        "healthCheckConfig": {"serviceName": "a.B"},
    }
    retry_policy = RetryPolicy(4, 0.1, 1.0, 2.0, frozenset({StatusCode.UNAVAILABLE}))
    codes = frozenset({StatusCode.UNAVAILABLE, StatusCode.INTERNAL, StatusCode.ABORTED})
    expected = ServiceConfig(
        methods={
            "/a.B/C": MethodConfig(timeout=1.5, wait_for_ready=True, retry=retry_policy),
            "/a.D/": MethodConfig(hedging=HedgingPolicy(4, 0.5, codes)),
        },
        balancing=Balancing("round_robin"),
        throttling=RetryThrottling(10, 0.1),
        health_service="a.B",
    )
    assert read(config) == read(json.dumps(config)) == expected


def test_an_empty_config_says_nothing() -> None:
    """gRFC A21: "An empty service config is valid"."""
    config = read("{}")
    assert config == ServiceConfig()
    assert config.method("/a.B/C") == MethodConfig()


def test_null_is_the_same_as_nothing() -> None:
    """In the JSON form of protobuf a field that is `null` is not there."""
    fields = ("loadBalancingConfig", "loadBalancingPolicy", "methodConfig", "retryThrottling", "healthCheckConfig")
    assert read(dict.fromkeys(fields)) == ServiceConfig()
    entry = dict.fromkeys(("timeout", "waitForReady", "retryPolicy", "hedgingPolicy"))
    assert read(default(**entry)).method("/a.B/C") == MethodConfig()
    assert read({"healthCheckConfig": {"serviceName": None}}).health_service is None


@pytest.mark.parametrize(
    "config",
    [
        {"unknownField": "value", "methodConfig": []},
        {"methodConfig": [{"name": [{"service": "a.B", "also": 1}], "maxRequestMessageBytes": 5, "new": {}}]},
        retry(perAttemptRecvTimeout="1s"),
        {"loadBalancingConfig": [{"round_robin": {"new": 1}}]},
    ],
)
def test_unknown_fields_are_ignored(config: dict[str, Any]) -> None:
    """gRFC A21: "ignoring the unknown fields, i.e., unknown fields do not affect validation"."""
    read(config)


# Names


def test_the_most_specific_name_wins() -> None:
    """service_config.proto: the method's own entry, else its service's, else the default, and nothing of the others."""
    config = read(
        {
            "methodConfig": [
                {"name": [{}], "timeout": "3s", "waitForReady": True},
                {"name": [{"service": "MyService"}], "timeout": "2s"},
                {"name": [{"service": "MyService", "method": "Foo"}, {"service": "Other", "method": "Foo"}]},
            ]
        }
    )
    assert config.method("/MyService/Foo") == config.method("/Other/Foo") == MethodConfig()
    assert config.method("/MyService/Bar") == MethodConfig(timeout=2.0)
    assert config.method("/AnotherService/Baz") == MethodConfig(timeout=3.0, wait_for_ready=True)
    assert config.method("/Other/Baz") == config.method("/MyServiceX/Foo") == config.method("/AnotherService/Baz")
    assert config.method("no path at all") == config.method("/AnotherService/Baz")


@pytest.mark.parametrize("same", [{"service": "s"}, {"service": "s", "method": None}, {"service": "s", "method": ""}])
def test_an_empty_method_is_the_whole_service(same: dict[str, Any]) -> None:
    """service_config.proto: 'value "", value `null`, and not present are the same'."""
    config = read({"methodConfig": [{"name": [same], "timeout": "1s"}]})
    assert config.method("/s/Any") == MethodConfig(timeout=1.0)
    assert config.method("/t/Any") == MethodConfig()


@pytest.mark.parametrize("entry", [{"timeout": "1s"}, {"name": [], "timeout": "1s"}, {"name": None, "timeout": "1s"}])
def test_an_entry_without_names_is_for_nobody(entry: dict[str, Any]) -> None:
    """service_config.proto: "MethodConfig without names (empty list) will be skipped"."""
    assert read({"methodConfig": [entry]}) == ServiceConfig()


def test_an_entry_without_names_must_be_valid() -> None:
    """gRFC A21: "If any of the known fields fails in validation, the entire service config is deemed invalid"."""
    with pytest.raises(InvalidServiceConfig, match=r"^methodConfig\[0\]\.timeout: "):
        read({"methodConfig": [{"timeout": 1}]})


@pytest.mark.parametrize("name", [{}, {"service": "s"}, {"service": "s", "method": "m"}])
def test_a_name_is_given_once(name: dict[str, Any]) -> None:
    """service_config.proto: "Each name entry must be unique across the entire ServiceConfig"."""
    with pytest.raises(InvalidServiceConfig) as refused:
        read({"methodConfig": [{"name": [{"service": "x"}, name]}, {"name": [name]}]})
    assert str(refused.value) == "methodConfig[1].name[0]: names the same as methodConfig[0].name[1]"


# Values that are allowed


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1.0),
        ("1.5s", 1.5),
        (".1s", 0.1),  # as the examples in A6 itself were written
        ("0.000000001s", 1e-9),
        ("0s", 0.0),
        ("315576000000s", 315_576_000_000.0),
    ],
)
def test_a_duration_is_seconds_with_up_to_nine_decimals(text: str, seconds: float) -> None:
    """Durations are the JSON form of google.protobuf.Duration."""
    assert read(default(timeout=text)).method("/a.B/C").timeout == seconds


@given(st.integers(0, 315_576_000_000), st.integers(0, 999_999_999))
def test_every_duration_of_protobuf_is_read(seconds: int, nanos: int) -> None:
    """Whatever protobuf can write is read as the same number of seconds."""
    timeout = read(default(timeout=f"{seconds}.{nanos:09}s")).method("/a.B/C").timeout
    assert timeout == pytest.approx(seconds + nanos / 1e9, rel=1e-15)


@pytest.mark.parametrize(("given_attempts", "attempts"), [(2, 2), (5, 5), (6, 5), (1_000_000, 5)])
def test_attempts_are_capped_at_five(given_attempts: int, attempts: int) -> None:
    """gRFC A6: "Values greater than 5 are treated as 5 without being considered a validation error"."""
    for config in (retry(maxAttempts=given_attempts), hedging(maxAttempts=given_attempts)):
        method = read(config).method("/a.B/C")
        policy = method.retry or method.hedging
        assert policy is not None
        assert policy.max_attempts == attempts


@pytest.mark.parametrize("code", [14, "UNAVAILABLE", "unavailable", "Unavailable"])
def test_a_status_code_is_a_number_or_a_name(code: int | str) -> None:
    """gRFC A6: "specified in the integer form or the case-insensitive string form"."""
    policy = read(retry(retryableStatusCodes=[code])).method("/a.B/C").retry
    assert policy is not None
    assert policy.codes == {StatusCode.UNAVAILABLE}


@pytest.mark.parametrize("code", list(StatusCode))
def test_every_status_code_has_both_forms(code: StatusCode) -> None:
    """All seventeen codes of gRPC are known by name and by number."""
    policy = read(retry(retryableStatusCodes=[code.name, code.value[0]])).method("/a.B/C").retry
    assert policy is not None
    assert policy.codes == {code}


def test_hedging_needs_no_delay_and_no_codes() -> None:
    """gRFC A6: `hedgingDelay` and `nonFatalStatusCodes` are optional; without a delay all attempts go at once."""
    config = read(default(hedgingPolicy={"maxAttempts": 3}))
    assert config.method("/a.B/C").hedging == HedgingPolicy(3, 0.0, frozenset())


@pytest.mark.parametrize(
    ("written", "ratio"),
    [("0.1", 0.1), ("0.5466", 0.546), ("0.57", 0.57), ("2", 2.0), ("1e-3", 0.001), ("1.0009", 1.0)],
)
def test_a_token_ratio_has_three_decimals(written: str, ratio: float) -> None:
    """gRFC A6: "Decimal places beyond 3 are ignored. (eg. 0.5466 is treated as 0.546.)"."""
    config = read(f'{{"retryThrottling": {{"maxTokens": 1000, "tokenRatio": {written}}}}}')
    assert config.throttling == RetryThrottling(1000, ratio)


def test_the_first_known_policy_wins() -> None:
    """service_config.proto: "iterate through the list in order and stop at the first policy that they support"."""
    listed: list[dict[str, Any]] = [{"xds_experimental": {}}, {"round_robin": {}}, {"least_outstanding": {}}]
    assert read({"loadBalancingConfig": listed}).balancing == Balancing("round_robin")


def test_the_old_way_to_name_a_policy_counts_if_there_is_no_new_one() -> None:
    """service_config.proto: `loadBalancingPolicy` "will be used only if the latter is unset", and is an enum there."""
    assert read({"loadBalancingPolicy": "ROUND_ROBIN"}).balancing == Balancing("round_robin")
    both = {"loadBalancingPolicy": "nonsense", "loadBalancingConfig": [{"least_outstanding": {}}]}
    assert read(both).balancing == Balancing("least_outstanding")


def test_the_health_of_the_whole_server_can_be_asked_for() -> None:
    """gRFC A17: the empty `serviceName` is a name like another; no `serviceName` is none."""
    assert read({"healthCheckConfig": {"serviceName": ""}}).health_service == ""
    assert read({"healthCheckConfig": {}}).health_service is None


# Values that are refused


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("[]", "service config: must be an object, not []"),
        ("{", "service config: is not JSON: "),
        ('{"a": NaN}', "service config: is not JSON: NaN"),
        ("[" * 100_000, "service config: is not JSON: "),
        ("1" * 5_000, "service config: is not JSON: "),
        (
            '{"methodConfig": [], "methodConfig": []}',
            "service config: has an object with the field 'methodConfig' twice",
        ),
        (["methodConfig"], "service config: must be an object, not ['methodConfig']"),
        ({"methodConfig": {}}, "methodConfig: must be an array, not {}"),
        ({"methodConfig": [{}, 7]}, "methodConfig[1]: must be an object, not 7"),
        ({"methodConfig": [{"name": {}}]}, "methodConfig[0].name: must be an array, not {}"),
        ({"methodConfig": [{"name": ["a.B"]}]}, "methodConfig[0].name[0]: must be an object, not 'a.B'"),
        ({"methodConfig": [{"name": [{"service": 1}]}]}, "methodConfig[0].name[0].service: must be a text, not 1"),
        (
            {"methodConfig": [{"name": [{"service": "", "method": "C"}]}]},
            "methodConfig[0].name[0]: has the method 'C' without its service",
        ),
        (default(timeout=1.5), "methodConfig[0].timeout: must be a duration in seconds, like '1.5s', not 1.5"),
        (default(timeout="-1s"), "methodConfig[0].timeout: must be a duration in seconds, like '1.5s', not '-1s'"),
        (default(timeout="1"), "methodConfig[0].timeout: must be a duration"),
        (default(timeout="s"), "methodConfig[0].timeout: must be a duration"),
        (default(timeout=".s"), "methodConfig[0].timeout: must be a duration"),
        (default(timeout="1.s"), "methodConfig[0].timeout: must be a duration"),
        (default(timeout="1s\n"), "methodConfig[0].timeout: must be a duration"),
        (default(timeout="\u0661s"), "methodConfig[0].timeout: must be a duration"),
        (default(timeout="1.0123456789s"), "methodConfig[0].timeout: must be a duration"),
        (default(timeout="315576000001s"), "methodConfig[0].timeout: must be a duration"),
        (default(waitForReady="true"), "methodConfig[0].waitForReady: must be true or false, not 'true'"),
        (default(retryPolicy=[]), "methodConfig[0].retryPolicy: must be an object, not []"),
        (
            default(retryPolicy=RETRY, hedgingPolicy=HEDGING),
            "methodConfig[0]: has both a retryPolicy and a hedgingPolicy, of which only one may be set",
        ),
        (retry(maxAttempts=1), f"{IN_RETRY}.maxAttempts: must be an integer of at least 2, not 1"),
        (retry(maxAttempts=2.0), f"{IN_RETRY}.maxAttempts: must be an integer of at least 2, not 2.0"),
        (retry(maxAttempts=True), f"{IN_RETRY}.maxAttempts: must be an integer"),
        (retry(maxAttempts=None), f"{IN_RETRY}.maxAttempts: is required"),
        (
            retry(initialBackoff="0s"),
            f"{IN_RETRY}.initialBackoff: must be a duration greater than '0s'",
        ),
        (retry(initialBackoff=None), f"{IN_RETRY}.initialBackoff: is required"),
        (retry(maxBackoff="0.000s"), f"{IN_RETRY}.maxBackoff: must be a duration greater than '0s'"),
        (retry(maxBackoff=None), f"{IN_RETRY}.maxBackoff: is required"),
        (retry(backoffMultiplier=0), f"{IN_RETRY}.backoffMultiplier: must be a number greater than 0"),
        (
            retry(backoffMultiplier="2"),
            f"{IN_RETRY}.backoffMultiplier: must be a number greater than 0",
        ),
        (retry(backoffMultiplier=float("nan")), f"{IN_RETRY}.backoffMultiplier: must be a number"),
        (retry(backoffMultiplier=float("inf")), f"{IN_RETRY}.backoffMultiplier: must be a number"),
        (retry(backoffMultiplier=10**400), f"{IN_RETRY}.backoffMultiplier: must be a number"),
        (retry(backoffMultiplier=None), f"{IN_RETRY}.backoffMultiplier: is required"),
        (
            retry(retryableStatusCodes=[]),
            f"{IN_RETRY}.retryableStatusCodes: must name at least one status code",
        ),
        (retry(retryableStatusCodes=None), f"{IN_RETRY}.retryableStatusCodes: is required"),
        (
            retry(retryableStatusCodes="UNAVAILABLE"),
            f"{IN_RETRY}.retryableStatusCodes: must be an array",
        ),
        (
            retry(retryableStatusCodes=["UNAVAILABLE", "GONE"]),
            f"{IN_RETRY}.retryableStatusCodes[1]: must be the name or the number of a gRPC status code",
        ),
        (retry(retryableStatusCodes=[17]), f"{IN_RETRY}.retryableStatusCodes[0]: must be the name"),
        (retry(retryableStatusCodes=[14.0]), f"{IN_RETRY}.retryableStatusCodes[0]: must be the name"),
        (retry(retryableStatusCodes=[True]), f"{IN_RETRY}.retryableStatusCodes[0]: must be the name"),
        (hedging(maxAttempts=1), f"{IN_HEDGING}.maxAttempts: must be an integer of at least 2, not 1"),
        (hedging(maxAttempts=None), f"{IN_HEDGING}.maxAttempts: is required"),
        (hedging(hedgingDelay=1), f"{IN_HEDGING}.hedgingDelay: must be a duration"),
        (hedging(nonFatalStatusCodes=["x"]), f"{IN_HEDGING}.nonFatalStatusCodes[0]: must be the name"),
        (throttling(0, 0.1), "retryThrottling.maxTokens: must be an integer from 1 to 1000, not 0"),
        (throttling(1001, 0.1), "retryThrottling.maxTokens: must be an integer from 1 to 1000, not 1001"),
        (throttling(10.5, 0.1), "retryThrottling.maxTokens: must be an integer from 1 to 1000, not 10.5"),
        (throttling(None, 0.1), "retryThrottling.maxTokens: is required"),
        (throttling(10, 0), "retryThrottling.tokenRatio: must be a number greater than 0, not 0"),
        (throttling(10, 0.0009), "retryThrottling.tokenRatio: must be at least 0.001"),
        (throttling(10, None), "retryThrottling.tokenRatio: is required"),
        (
            {"loadBalancingConfig": [{"a": {}}, {"b": {}}]},
            "loadBalancingConfig: must be a list with a known policy (least_outstanding, round_robin), not [",
        ),
        ({"loadBalancingConfig": []}, "loadBalancingConfig: must be a list with a known policy"),
        ({"loadBalancingConfig": [{}]}, "loadBalancingConfig[0]: must be an object with one field, named for a policy"),
        ({"loadBalancingConfig": [{"a": {}, "b": {}}]}, "loadBalancingConfig[0]: must be an object with one field"),
        ({"loadBalancingConfig": ["round_robin"]}, "loadBalancingConfig[0]: must be an object with one field"),
        ({"loadBalancingConfig": [{"round_robin": 1}]}, "loadBalancingConfig[0].round_robin: must be an object, not 1"),
        (
            {"loadBalancingPolicy": "fastest"},
            "loadBalancingPolicy: must be a known policy (least_outstanding, round_robin)",
        ),
        ({"healthCheckConfig": "a.B"}, "healthCheckConfig: must be an object, not 'a.B'"),
        ({"healthCheckConfig": {"serviceName": 1}}, "healthCheckConfig.serviceName: must be a text, not 1"),
    ],
)
def test_an_error_says_where_and_what(config: Any, message: str) -> None:
    """Each broken rule is refused with the JSON path of the value and what may be there."""
    with pytest.raises(InvalidServiceConfig) as refused:
        read(config)
    assert str(refused.value).startswith(message)


def test_an_error_survives_pickling() -> None:
    """The error can travel between processes, path and reason included."""
    with pytest.raises(InvalidServiceConfig) as refused:
        read({"retryThrottling": 1})
    again = pickle.loads(pickle.dumps(refused.value))  # noqa: S301  # our own bytes
    assert (again.path, str(again)) == ("retryThrottling", str(refused.value))


NAMES = st.sampled_from(
    [
        *("name", "service", "method", "timeout", "waitForReady", "retryPolicy", "hedgingPolicy", "methodConfig"),
        *("retryThrottling", "loadBalancingConfig", "healthCheckConfig", "round_robin", "serviceName", "maxTokens"),
        *RETRY,
        *HEDGING,
        "tokenRatio",
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["1s", "0s", "UNAVAILABLE", "round_robin", ""])
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=25,
)


def read_or_path(config: Any) -> ServiceConfig | str:
    """The config, or where it is wrong."""
    try:
        return read(config)
    except InvalidServiceConfig as error:
        return error.path


@given(st.dictionaries(NAMES, VALUES))
def test_anything_else_is_refused_in_the_same_way(config: dict[str, Any]) -> None:
    """Whatever is given, the answer is a config or an `InvalidServiceConfig`, and the same for its JSON text."""
    as_text = read_or_path(json.dumps(config))
    assert as_text in ("", read_or_path(config))  # "": NaN and Infinity are no JSON, wherever they are
