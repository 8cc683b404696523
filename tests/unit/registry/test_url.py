"""Registry URLs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import grpc_registry
from grpc_registry import GoZero, InvalidUrl
from grpc_registry.url import EtcdUrl, Login, MemoryUrl, parse_url
from tests.authority import Authority


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("etcd://127.0.0.1:2379", EtcdUrl(("127.0.0.1:2379",))),
        ("etcd://h1", EtcdUrl(("h1:2379",))),
        ("etcd://h1:1,h2:2,[::1]:3/", EtcdUrl(("h1:1", "h2:2", "[::1]:3"))),
        ("etcd://h1:1/eu/mesh", EtcdUrl(("h1:1",), prefix="eu/mesh")),
        ("etcd://root:p%40ss%2Fw@h1:1", EtcdUrl(("h1:1",), login=Login("root", "p@ss/w"))),
        ("etcd://root:p:q@h1:1", EtcdUrl(("h1:1",), login=Login("root", "p:q"))),
        ("memory://", MemoryUrl("")),
        ("memory://shop", MemoryUrl("shop")),
    ],
)
def test_a_url_is_taken_apart(url: str, parsed: EtcdUrl | MemoryUrl) -> None:
    """Members, prefix, login and the name of a space are read from where the documentation says."""
    assert parse_url(url) == parsed


def test_the_prefix_of_the_url_goes_before_the_argument() -> None:
    """A prefix is taken from the URL, else from the argument, else it is `mesh`."""
    parsed = [parse_url("etcd://h/a", prefix="b"), parse_url("etcd://h", prefix="b"), parse_url("etcd://h")]
    assert [url.prefix for url in parsed if isinstance(url, EtcdUrl)] == ["a", "b", "mesh"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "must look like"),
        ("127.0.0.1:2379", "must look like"),
        ("http://127.0.0.1:2379", "scheme 'http'"),
        ("etcd://", "member 1 is not host:port"),
        ("etcd://h1:1,,h2:2", "member 2 is not host:port"),
        ("etcd://h1:0", r"the port of member 1 \(h1\)"),
        ("etcd://h1:1,h2:x", r"the port of member 2 \(h2\)"),
        ("etcd://h1:65536", r"the port of member 1 \(h1\)"),
        ("etcd://h1:1,h1:1", "named twice"),
        ("etcd://h1:1//x//y", "prefix 'x//y': segment ''"),
        ("etcd://h1:1/a b", "prefix 'a b'"),
        ("etcd://h1:1?ca=x", "only etcds://"),
        ("etcd://h1:1#x", "percent-encoded"),
        ("etcds://h1:1?ca", "name=value"),
        ("etcds://h1:1?who=x", "unknown parameter 'who'"),
        ("etcds://h1:1?ca=/nowhere&ca=/nowhere", "given twice"),
        ("etcds://h1:1?cert=/nowhere", "cert and key go together"),
        ("etcds://h1:1?ca=/nowhere/ca.pem", "ca: cannot read '/nowhere/ca.pem': No such file"),
        ("etcds://h1:1?ca=%00", "ca: cannot read"),
        (None, "must be text such as etcd://host:port, not NoneType"),
        (b"etcd://h1:1", "not bytes"),
        ("memory://a/b", "takes a name and nothing else"),
        ("memory://a b", "the name after memory://"),
    ],
)
def test_the_wrong_part_is_named(url: Any, message: str) -> None:
    """A URL that cannot be used is refused with a message that names what is wrong in it."""
    with pytest.raises(InvalidUrl, match=message):
        grpc_registry.connect(url)


@pytest.mark.parametrize(
    "url",
    [
        "etcd://root:secret",
        "etcd://root:secret@",
        "etcd://root:se/secret@h1:1",
        "etcd://root:se#secret@h1:1",
        "etcd://root:se?secret@h1:1",
        "etcd://secret@h1:1",
        "etcd://:secret@h1:1",
        "etcd://root:secret@h1:x",
        "etcd://root:secret@h1:1/a b",
        "etcd://root:secret,h1:1",
        "root:secret@h1:1",
    ],
)
def test_a_password_is_never_quoted(url: str) -> None:
    """However a URL with a password is broken, the message does not contain the password."""
    with pytest.raises(InvalidUrl) as caught:
        parse_url(url)
    assert "secret" not in str(caught.value)


def test_a_representation_hides_the_password_and_the_key(tmp_path: Path) -> None:
    """Neither the parsed URL nor the registry shows the password or the private key."""
    authority = Authority(tmp_path)
    cert, key = authority.issue("client")
    url = f"etcds://root:secret@h1:1,h2:2?ca={authority.ca}&cert={cert}&key={key}&server_name=etcd.internal"
    parsed = parse_url(url)
    assert isinstance(parsed, EtcdUrl)
    assert parsed.tls is not None
    assert parsed.tls.server_name == "etcd.internal"
    assert "secret" not in repr(parsed) + str(parsed)
    assert "BEGIN" not in repr(parsed) + repr(parsed.tls.read())
    assert repr(grpc_registry.connect(url)) == "<EtcdRegistry etcds://h1:1,h2:2/mesh not connected yet, 0 registered>"


def test_a_file_that_is_no_certificate_is_refused(tmp_path: Path) -> None:
    """A path to the wrong file is noticed before etcd is asked."""
    wrong = tmp_path / "ca.pem"
    wrong.write_text("hello")
    with pytest.raises(InvalidUrl, match="is not a PEM file"):
        parse_url(f"etcds://h1:1?ca={wrong}")


@pytest.mark.parametrize(
    ("argument", "error", "message"),
    [
        ({"ttl": 0}, ValueError, "ttl 0: whole seconds, from 2 to 9,000,000,000"),
        ({"ttl": 1}, ValueError, "ttl 1"),
        ({"ttl": 9_000_000_001}, ValueError, "ttl 9000000001"),
        ({"ttl": True}, TypeError, "ttl True"),
        ({"ttl": 2.5}, TypeError, "ttl 2.5"),
        ({"ttl": math.nan}, TypeError, "ttl nan"),
        ({"ttl": "10"}, TypeError, "ttl '10'"),
        ({"timeout": 0}, ValueError, "timeout 0: a number of seconds, more than 0"),
        ({"timeout": math.inf}, ValueError, "timeout inf"),
        ({"timeout": None}, TypeError, "timeout None"),
        ({"close_timeout": -1}, ValueError, "close_timeout -1: a number of seconds, 0 or more"),
        ({"close_timeout": math.nan}, ValueError, "close_timeout nan"),
        ({"close_timeout": True}, TypeError, "close_timeout True"),
        ({"also": "kratos"}, TypeError, r"also 'kratos': a list of formats, such as \['kratos'\]"),
        ({"also": GoZero()}, TypeError, r"also GoZero\(.*\): a list"),
        ({"also": [5]}, TypeError, "format 5: 'kratos', 'go-zero', or a Format"),
        ({"also": ["etcd"]}, ValueError, "format 'etcd'"),
        ({"prefix": 5}, TypeError, "prefix 5: text"),
        ({"prefix": "/x/"}, InvalidUrl, "prefix '/x/'"),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused_at_once(
    argument: dict[str, Any], error: type[Exception], message: str
) -> None:
    """It is named with its value, and with what is needed instead."""
    with pytest.raises(error, match=f"^{message}"):
        grpc_registry.connect("etcd://h1:1", **argument)


def test_closing_may_be_told_not_to_wait() -> None:
    """No time at all is a time to wait, and the bounds of the TTL are within it."""
    for ttl in (2, 9_000_000_000):
        grpc_registry.connect("etcd://h1:1", ttl=ttl, close_timeout=0)
