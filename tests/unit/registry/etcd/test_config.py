"""Service configs as etcd holds them."""

from __future__ import annotations

import pytest

from grpc_registry import ConfigSnapshot, InvalidInstance
from grpc_registry.etcd.config import ConfigReader, as_text
from grpc_registry.etcd.keys import Keyspace
from grpc_registry.etcd.kv import KeyValue
from grpc_registry.etcd.watch import Deleted, Event
from grpc_registry.service_config import InvalidServiceConfig, parse

KEY = b"mesh:config/s"


def test_a_config_lives_where_the_contract_says() -> None:
    """The key is `{prefix}:config/{service}`, and a name with a slash cannot reach another service's."""
    assert Keyspace("mesh").config("product") == b"mesh:config/product"
    assert Keyspace("a/b").config("product") == b"a/b:config/product"
    for name in ("", "a/b", "a b"):
        with pytest.raises(InvalidInstance, match="service"):
            Keyspace("mesh").config(name)


def test_a_list_finds_one_text_or_none() -> None:
    """The snapshot is of the list's revision; no key is a service without a config."""
    reader = ConfigReader()
    assert reader.listed("s", 7, [KeyValue(KEY, b"{}", 5, 0)]) == ConfigSnapshot("s", 7, "{}")
    assert reader.listed("s", 7, []) == ConfigSnapshot("s", 7, None)


@pytest.mark.parametrize(
    ("events", "text", "revision"),
    [
        ([KeyValue(KEY, b"{ }", 8, 0)], "{ }", 8),
        ([Deleted(KEY, 8)], None, 8),
        ([Deleted(KEY, 8), KeyValue(KEY, b"[]", 9, 0)], "[]", 9),
        ([KeyValue(KEY, b"[]", 8, 0), Deleted(KEY, 9)], None, 9),
    ],
)
def test_the_last_event_counts(events: list[Event], text: str | None, revision: int) -> None:
    """After several changes the config is what a list would find."""
    known = ConfigSnapshot("s", 7, "{}")
    assert ConfigReader().folded(known, events) == ConfigSnapshot("s", revision, text)


@pytest.mark.parametrize("value", [b"\xff", b'{"methodConfig": [], "comment": "\xff"}', "{}".encode("utf-16")])
def test_what_is_not_utf_8_cannot_be_obeyed(value: bytes) -> None:
    """Bytes that are no text never parse, even if the wrong ones stand where any text may stand."""
    with pytest.raises(InvalidServiceConfig):
        parse(as_text(value))
