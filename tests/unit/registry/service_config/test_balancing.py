"""`loadBalancingConfig`: the settings of the policies, outlier detection, and where an error says it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from grpc_registry.service_config import (
    POLICIES,
    Balancing,
    InvalidServiceConfig,
    OutlierDetection,
    RingHash,
    parse,
    parse_balancing,
)
from grpc_registry.service_config.model import FailurePercentage, SuccessRate

OUTLIER = "outlier_detection_experimental"
RING_PATH = "loadBalancingConfig[0].ring_hash"
OUTLIER_PATH = f"loadBalancingConfig[0].{OUTLIER}"


def ring(**settings: Any) -> dict[str, Any]:
    return {"ring_hash": settings}


def outlier(**settings: Any) -> dict[str, Any]:
    """An entry with outlier detection around `round_robin`; None leaves a field out."""
    return {OUTLIER: {"childPolicy": [{"round_robin": {}}], **settings}}


def read(entry: dict[str, Any]) -> Balancing:
    """The entry as a whole config has it, through its JSON text."""
    found = parse(json.dumps({"loadBalancingConfig": [entry]})).balancing
    assert found is not None
    assert found == parse_balancing(entry)
    return found


def detection(**settings: Any) -> OutlierDetection:
    found = read(outlier(**settings)).outlier_detection
    assert found is not None
    return found


@pytest.mark.parametrize("name", sorted({*POLICIES} - {"ring_hash"}))
def test_a_policy_without_settings_has_none(name: str) -> None:
    """Every policy can be named; what one does not know of its settings is ignored."""
    assert read({name: {}}) == read({name: {"later": 1}}) == Balancing(name)


def test_the_settings_of_a_policy_of_ones_own_arrive_as_they_are() -> None:
    """What is not known here is for its owner to judge."""
    entry = {"own": {"a": [1, {"b": None}]}}
    assert parse({"loadBalancingConfig": [entry]}, ["own"]).balancing == Balancing("own", {"a": [1, {"b": None}]})
    with pytest.raises(InvalidServiceConfig, match="must be a list with a known policy"):
        parse({"loadBalancingConfig": [entry]})


def test_a_ring_has_the_defaults_of_the_grfcs() -> None:
    """512 to 65,536 entries; gRFC A76: no header; Envoy has no bound on the load, here it is 1.25."""
    assert read(ring()) == Balancing("ring_hash", RingHash("", 512, 65_536, 1.25))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"requestHashHeader": "X-User"}, RingHash("x-user")),
        ({"requestHashHeader": ""}, RingHash()),
        ({"minRingSize": 1, "maxRingSize": 1}, RingHash("", 1, 1)),
        ({"minRingSize": 8_388_608}, RingHash("", 8_388_608, 8_388_608)),
        ({"loadFactor": 0}, RingHash(load_factor=0.0)),
        ({"loadFactor": 2}, RingHash(load_factor=2.0)),
        ({"minRingSize": None, "loadFactor": None, "requestHashHeader": None, "new": 1}, RingHash()),
    ],
)
def test_a_ring_can_be_set(settings: dict[str, Any], expected: RingHash) -> None:
    """Each setting counts; a header is in lower case, as metadata is; the largest ring is never below the least."""
    assert read(ring(**settings)).settings == expected


def test_outlier_detection_has_the_defaults_of_envoy() -> None:
    """Five consecutive failures, 10 s, 30 s up to 300 s, 10%; the statistical algorithms only if they are asked for."""
    assert read(outlier()) == Balancing("round_robin", None, OutlierDetection(10, 30, 300, 10, 5, None, None))


def test_outlier_detection_can_be_set() -> None:
    """Every field of gRFC A50 arrives, durations in seconds, with the settings of the policy inside."""
    entry = outlier(
        childPolicy=[{"xds_experimental": {}}, {"ring_hash": {"requestHashHeader": "user"}}],
        interval="1s",
        baseEjectionTime="2.5s",
        maxEjectionTime="60s",
        maxEjectionPercent=50,
        consecutiveFailures=0,
        successRateEjection={
            "stdevFactor": 1000,
            "enforcementPercentage": 90,
            "minimumHosts": 3,
            "requestVolume": 20,
        },
        failurePercentageEjection={
            "threshold": 50,
            "enforcementPercentage": 80,
            "minimumHosts": 2,
            "requestVolume": 10,
        },
    )
    expected = OutlierDetection(
        interval=1.0,
        base_ejection_time=2.5,
        max_ejection_time=60.0,
        max_ejection_percent=50,
        consecutive_failures=0,
        success_rate=SuccessRate(1000, 90, 3, 20),
        failure_percentage=FailurePercentage(50, 80, 2, 10),
    )
    assert read(entry) == Balancing("ring_hash", RingHash("user"), expected)


def test_an_empty_algorithm_is_on_with_its_defaults() -> None:
    """gRFC A50: the presence of the object switches the algorithm on; a 0 in it is a 0, not a default."""
    found = detection(successRateEjection={}, failurePercentageEjection={"threshold": 0, "requestVolume": 0})
    assert found.success_rate == SuccessRate(1900, 100, 5, 100)
    assert found.failure_percentage == FailurePercentage(0, 100, 5, 0)
    assert detection(maxEjectionPercent=0).max_ejection_percent == 0


def test_an_ejection_is_never_shorter_than_the_first() -> None:
    """gRFC A50: the longest ejection is at least the base ejection time, given or not."""
    assert detection(baseEjectionTime="600s").max_ejection_time == 600
    assert detection(baseEjectionTime="60s", maxEjectionTime="1s").max_ejection_time == 60


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"ring_hash": []}, f"{RING_PATH}: must be an object, not []"),
        (ring(minRingSize=0), f"{RING_PATH}.minRingSize: must be an integer from 1 to 8388608, not 0"),
        (ring(maxRingSize=8_388_609), f"{RING_PATH}.maxRingSize: must be an integer from 1 to 8388608"),
        (ring(minRingSize=9, maxRingSize=8), f"{RING_PATH}.minRingSize: must be at most maxRingSize, 8, not 9"),
        (ring(maxRingSize=511), f"{RING_PATH}.minRingSize: must be at most maxRingSize, 511, not 512"),
        (ring(loadFactor=1), f"{RING_PATH}.loadFactor: must be more than 1, or 0 for no bound, not 1"),
        (ring(loadFactor=False), f"{RING_PATH}.loadFactor: must be a number greater than 0, not False"),
        (ring(loadFactor="1.5"), f"{RING_PATH}.loadFactor: must be a number greater than 0, not '1.5'"),
        (ring(requestHashHeader="user-bin"), f"{RING_PATH}.requestHashHeader: must be the name of a text header"),
        (ring(requestHashHeader="a user"), f"{RING_PATH}.requestHashHeader: must be the name of a text header"),
        (ring(requestHashHeader=1), f"{RING_PATH}.requestHashHeader: must be a text, not 1"),
        ({OUTLIER: 1}, f"{OUTLIER_PATH}: must be an object, not 1"),
        ({OUTLIER: {}}, f"{OUTLIER_PATH}.childPolicy: is required"),
        (outlier(childPolicy=[]), f"{OUTLIER_PATH}.childPolicy: must be a list with a known policy"),
        (
            outlier(childPolicy=[{"x": {}}, {"ring_hash": {"loadFactor": -1}}]),
            f"{OUTLIER_PATH}.childPolicy[1].ring_hash.loadFactor: must be a number greater than 0, not -1",
        ),
        (
            outlier(childPolicy=[outlier()]),
            f"{OUTLIER_PATH}.childPolicy[0].{OUTLIER}: is inside another outlier detection",
        ),
        (outlier(interval="0s"), f"{OUTLIER_PATH}.interval: must be a duration greater than '0s', not '0s'"),
        (outlier(interval=10), f"{OUTLIER_PATH}.interval: must be a duration in seconds, like '1.5s', not 10"),
        (outlier(baseEjectionTime="-1s"), f"{OUTLIER_PATH}.baseEjectionTime: must be a duration"),
        (outlier(maxEjectionTime="x"), f"{OUTLIER_PATH}.maxEjectionTime: must be a duration"),
        (outlier(maxEjectionPercent=101), f"{OUTLIER_PATH}.maxEjectionPercent: must be an integer from 0 to 100"),
        (outlier(consecutiveFailures=-1), f"{OUTLIER_PATH}.consecutiveFailures: must be an integer from 0 to"),
        (outlier(successRateEjection=True), f"{OUTLIER_PATH}.successRateEjection: must be an object, not True"),
        (
            outlier(successRateEjection={"stdevFactor": 1.9}),
            f"{OUTLIER_PATH}.successRateEjection.stdevFactor: must be an integer from 0 to 4294967295, not 1.9",
        ),
        (
            outlier(successRateEjection={"stdevFactor": 10**400}),  # which no double can hold
            f"{OUTLIER_PATH}.successRateEjection.stdevFactor: must be an integer from 0 to 4294967295, not 1000",
        ),
        (
            outlier(successRateEjection={"enforcementPercentage": 101}),
            f"{OUTLIER_PATH}.successRateEjection.enforcementPercentage: must be an integer from 0 to 100, not 101",
        ),
        (
            outlier(failurePercentageEjection={"threshold": 101}),
            f"{OUTLIER_PATH}.failurePercentageEjection.threshold: must be an integer from 0 to 100, not 101",
        ),
        (
            outlier(failurePercentageEjection={"minimumHosts": "5"}),
            f"{OUTLIER_PATH}.failurePercentageEjection.minimumHosts: must be an integer from 0 to 4294967295, not '5'",
        ),
    ],
)
def test_an_error_says_where_and_what(entry: dict[str, Any], message: str) -> None:
    """Each broken rule is refused with the JSON path of the value and what may be there."""
    with pytest.raises(InvalidServiceConfig) as refused:
        parse({"loadBalancingConfig": [entry]})
    assert str(refused.value).startswith(message)


def test_a_config_of_any_depth_is_refused_and_not_crashed_on() -> None:
    """Outlier detection in itself, hundreds of times, is as invalid as once."""
    text = f'{{"{OUTLIER}": {{"childPolicy": [' * 300 + '{"round_robin": {}}' + "]}}" * 300
    with pytest.raises(InvalidServiceConfig, match="inside another outlier detection"):
        parse(f'{{"loadBalancingConfig": [{text}]}}')
