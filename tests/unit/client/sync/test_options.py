"""The blocking channel takes what the asynchronous one takes."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import grpc_balancer
from grpc_balancer import sync


def _resolver() -> Any:
    raise AssertionError


def test_the_options_are_those_of_the_channel() -> None:
    """Each keyword argument of `grpc_balancer.Channel` is one of `Options`, and the other way round."""
    parameters = inspect.signature(grpc_balancer.Channel).parameters.values()
    named = {each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
    assert set(sync.Options.__annotations__) == named


@pytest.mark.parametrize(
    ("service", "registry", "options", "error", "words"),
    [
        ("a/b", _resolver, {}, ValueError, "service"),
        ("echo", "http://127.0.0.1", {}, ValueError, "http"),
        ("echo", 7, {}, TypeError, "registry 7"),
        ("echo", _resolver, {"policy": "none_such"}, ValueError, "none_such"),
        ("echo", _resolver, {"service_config": {"methodConfig": 1}}, ValueError, "methodConfig"),
        ("echo", _resolver, {"polizy": "random"}, TypeError, "polizy"),
    ],
)
def test_a_mistake_is_named_where_the_channel_is_made(
    service: str, registry: Any, options: Any, error: type[Exception], words: str
) -> None:
    """Nothing has to be called for it."""
    with pytest.raises(error, match=words):
        sync.Channel(service, registry, **options)


async def test_it_may_be_made_inside_of_a_running_loop() -> None:
    """A module that makes one may be imported anywhere."""
    assert "not in use yet" in repr(sync.Channel("echo", _resolver))


def test_options_may_come_from_an_iterator() -> None:
    """It is read where the channel is made, and what it gave is still there when the channel is first used."""
    given = [("grpc.max_send_message_length", 7)]
    assert sync.Channel("echo", _resolver, options=iter(given))._session._options["options"] == tuple(given)
