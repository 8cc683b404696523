"""What SHOP_CACHE_NAMESPACES may say, and what an unknown name is told."""

from __future__ import annotations

import pytest

from shop_services.cache.domain import Namespace
from shop_services.cache.namespaces import MAX_NAMESPACES, Namespaces, check_fits
from shop_services.runtime.errors import InvalidArgument
from shop_services.runtime.settings import SettingError, Settings


def parse(text: str) -> Namespaces:
    return Namespaces.parse(text, max_entries=100, max_bytes=5_000)


def test_a_namespace_has_its_policy_limits_and_ttl() -> None:
    """What a declaration leaves out is the process's default, and spaces and a last semicolon do not matter."""
    found = parse(" web = lfu , entries=7, bytes=900,ttl=1.5 ; api.v-1_=fifo,ttl=31536000;tmp=lru; ")
    assert list(found.values()) == [
        Namespace("api.v-1_", "fifo", 100, 5_000, 31_536_000 * 10**9),
        Namespace("tmp", "lru", 100, 5_000, None),
        Namespace("web", "lfu", 7, 900, 1_500_000_000),
    ]


def test_the_default_setting_declares_three() -> None:
    """Unless told otherwise there are namespaces for anything, for sessions and for the catalog."""
    assert list(parse(Settings().cache_namespaces)) == ["catalog", "default", "sessions"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "''"),
        (";", "''"),
        ("a=lru;;b=lru", "''"),
        ("a", "'a'"),
        ("=lru", "'=lru'"),
        ("a b=lru", "'a b=lru'"),
        ("ä=lru", "'ä=lru'"),
        (f"{'x' * 65}=lru", "1 to 64"),
        ("a=", "a: ''"),
        ("a=LRU", "a: 'LRU'"),
        ("a=arc", "a: 'arc' is not a policy; those are lru, lfu, fifo"),
        ("a=lru,", "a: ''"),
        ("a=lru,size=3", "a: 'size=3'"),
        ("a=lru,entries", "a: entries ''"),
        ("a=lru,entries=0", "a: entries '0'"),
        ("a=lru,entries=-1", "a: entries '-1'"),
        ("a=lru,entries=1e3", "a: entries '1e3'"),
        ("a=lru,bytes=9999999999999999", "a: bytes '9999999999999999'"),
        ("a=lru,entries=1,entries=2", "a: entries is there twice"),
        ("a=lru,ttl=0", "a: ttl '0'"),
        ("a=lru,ttl=-1", "a: ttl '-1'"),
        ("a=lru,ttl=nan", "a: ttl 'nan'"),
        ("a=lru,ttl=31536000.1", "a: ttl '31536000.1'"),
        ("a=lru,ttl=1h", "a: ttl '1h'"),
        ("a=lru;b=lru;a=lfu", "'a' is there twice"),
        (";".join(f"n{i}=lru" for i in range(MAX_NAMESPACES + 1)), "101 namespaces; at most 100"),
    ],
)
def test_a_wrong_declaration_is_refused_at_its_place(text: str, named: str) -> None:
    """The error begins with the variable, and names the namespace and the option that are wrong."""
    with pytest.raises(SettingError) as caught:
        parse(text)
    assert str(caught.value).startswith("SHOP_CACHE_NAMESPACES: ")
    assert named in str(caught.value)


def test_an_unknown_name_is_told_those_that_there_are() -> None:
    """The error is about the field `namespace`, and lists the names, but not a hundred of them."""
    with pytest.raises(InvalidArgument) as caught:
        parse("b=lru;a=lru").find("catalogue")
    assert caught.value.violations == (("namespace", "there is no namespace 'catalogue'; there are a, b"),)
    with pytest.raises(InvalidArgument, match=r"n01, n02, .*, n19 and 80 more$"):
        parse(";".join(f"n{i:02}=lru" for i in range(100))).find("x")


def test_an_entry_larger_than_its_namespace_is_refused_by_name_size_and_limit() -> None:
    """The key counts; just as many bytes as the limit fit; a namespace without a limit takes all."""
    space = parse("small=lru,bytes=10")["small"]
    check_fits(space, "ü", b"12345678", "value")
    with pytest.raises(InvalidArgument) as caught:
        check_fits(space, "ü", b"123456789", "value")
    why = "takes 11 bytes with its key; the namespace 'small' keeps at most 10"
    assert caught.value.violations == (("value", why),)
    check_fits(Namespace("free"), "k", b"x" * 10_000, "value")


def test_what_another_store_keeps_has_no_rules_of_ours_but_the_ttl() -> None:
    """Policy and limits are Redis' own; the default TTL is given with each value."""
    found = parse("a=lfu,entries=1,bytes=10,ttl=60").kept_elsewhere()
    assert found["a"] == Namespace("a", None, 0, 0, 60 * 10**9)
