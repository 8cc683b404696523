"""Keys."""

from __future__ import annotations

import pytest

from grpc_registry import InvalidInstance
from grpc_registry.etcd.keys import Keyspace
from grpc_registry.etcd.kv import KeyRange


def test_an_instance_lives_where_the_contract_says() -> None:
    """The key is `{prefix}/{service}/{id}`, and reads back as service and id."""
    keys = Keyspace("mesh")
    assert keys.instance("product", "a1") == b"mesh/product/a1"
    assert keys.parse(b"mesh/product/a1") == ("product", "a1")


def test_a_range_ends_where_the_prefix_does() -> None:
    """A service's range holds its keys, and neither those of a service with a longer name nor its configuration."""
    keys = Keyspace("mesh")
    assert keys.service("product") == KeyRange(b"mesh/product/", b"mesh/product0")
    assert keys.everything() == KeyRange(b"mesh/", b"mesh0")
    assert not b"mesh/" <= b"mesh:config/product" < b"mesh0"
    assert not b"mesh/product/" <= b"mesh/product2/a" < b"mesh/product0"


@pytest.mark.parametrize(
    "key", [b"mesh/", b"mesh/product", b"mesh/product/", b"mesh//a", b"mesh/p/a/b", b"mesh/p/\xff"]
)
def test_other_keys_are_refused(key: bytes) -> None:
    """A key under the prefix that names no instance is an `InvalidInstance`."""
    with pytest.raises(InvalidInstance):
        Keyspace("mesh").parse(key)
