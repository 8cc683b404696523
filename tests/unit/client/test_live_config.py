from __future__ import annotations

import logging

import pytest

from grpc_balancer.live_config import DEFAULT_POLICY, LiveConfig
from grpc_registry import ConfigSnapshot, Unresolved
from grpc_registry.service_config import Balancing, OutlierDetection, ServiceConfig

IN_CODE = ServiceConfig(balancing=Balancing("random"))
DETECTION = OutlierDetection(consecutive_failures=7)


def said(text: str | None, *, revision: int = 1, relisted: bool = False) -> ConfigSnapshot:
    return ConfigSnapshot("product", revision, text, relisted=relisted)


def live(default: ServiceConfig = IN_CODE, policy: Balancing | None = None) -> LiveConfig:
    return LiveConfig("product", default, policy, DETECTION)


def test_without_a_word_from_the_registry_the_code_counts() -> None:
    """The policy given to the channel outranks the service config in code, and that the default."""
    assert live().plan.balancing == Balancing("random")
    assert live(policy=Balancing("pick_first")).plan.balancing == Balancing("pick_first")
    assert live(ServiceConfig()).plan.balancing == Balancing(DEFAULT_POLICY)


def test_the_registry_outranks_the_code() -> None:
    """A config in the registry replaces the one in code as a whole, and its policy the channel's."""
    config = live(policy=Balancing("pick_first"))
    assert config.take(said('{"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": []}'))
    assert config.plan.balancing == Balancing("round_robin")
    assert config.take(said('{"methodConfig": [{"name": [{}], "timeout": "2s"}]}', revision=2))
    assert config.plan.balancing == Balancing("pick_first")
    assert config.plan.config.method("/a/B").timeout == 2.0
    assert config.take(said(None, revision=3))
    assert config.plan.config == IN_CODE


def test_a_wrong_config_is_ignored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The last good config stays in force, and one warning names the JSON path."""
    config = live()
    assert config.take(said('{"methodConfig": [{"name": [{}], "timeout": "2s"}]}'))
    with caplog.at_level(logging.WARNING):
        assert not config.take(said('{"methodConfig": [{"name": [{}], "timeout": 3}]}', revision=2))
        assert not config.take(said('{"methodConfig": [{"name": [{}], "timeout": 3}]}', revision=3))
    assert config.plan.config.method("/a/B").timeout == 2.0
    assert [record.getMessage().count("methodConfig[0].timeout") for record in caplog.records] == [1]


def test_a_config_that_a_wiped_store_lost_stays_in_force() -> None:
    """That there is none is believed when it is told as a change, and not when everything was read anew."""
    config = live()
    assert config.take(said('{"methodConfig": [{"name": [{}], "timeout": "2s"}]}'))
    assert not config.take(said(None, revision=1, relisted=True))
    assert config.plan.config.method("/a/B").timeout == 2.0
    assert config.take(said("{}", revision=2))
    assert config.plan.config.method("/a/B").timeout is None


def test_a_lost_config_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    """However often the registry comes and goes without it: again only if it was back and is lost again."""
    config = live()
    timeout = '{"methodConfig": [{"name": [{}], "timeout": "2s"}]}'
    assert config.take(said(timeout))
    for revision in range(2, 20):
        assert not config.take(said(None, revision=revision, relisted=True))
    assert [record.getMessage().count("'product'") for record in caplog.records] == [1]
    assert config.take(said(timeout.replace("2s", "3s"), revision=20))
    assert not config.take(said(None, revision=21, relisted=True))
    assert len(caplog.records) == 2


def test_a_registry_that_is_away_changes_nothing() -> None:
    """Until the registry answers the code counts, and `known` says that there was a word at all."""
    config = live()
    assert not config.known
    assert not config.take(Unresolved("product", "away"))
    assert config.known
    assert config.plan.config == IN_CODE


def test_outlier_detection_of_the_config_outranks_the_channels() -> None:
    """`outlier_detection_experimental` replaces the channel's settings; without it those hold."""
    config = live()
    assert config.plan.outlier_detection == DETECTION
    text = (
        '{"loadBalancingConfig": [{"outlier_detection_experimental":'
        ' {"interval": "1s", "childPolicy": [{"random": {}}]}}]}'
    )
    assert config.take(said(text))
    assert config.plan.balancing.policy == "random"
    assert config.plan.outlier_detection == OutlierDetection(interval=1.0)
