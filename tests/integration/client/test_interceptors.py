"""Client interceptors of grpc.aio around balanced calls; that plain ones disturb nothing is in the contract tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from grpc_balancer import Channel
from grpc_balancer.testing import ManualResolver
from tests.integration.client.conftest import all_connected
from tests.integration.client.echo import UNARY_UNARY, Echo, EchoProcess, EchoServer, kill_and_let_grpc_know, snapshot


class Tag(grpc.aio.UnaryUnaryClientInterceptor):
    """Adds a value to the metadata key `tags`, and counts what it sees."""

    def __init__(self, value: str) -> None:
        self.value = value
        self.seen = 0

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        self.seen += 1
        metadata = client_call_details.metadata or grpc.aio.Metadata()
        metadata["tags"] = str(metadata.get("tags", "")) + self.value
        return await continuation(client_call_details._replace(metadata=metadata), request)


class Stream(grpc.aio.UnaryStreamClientInterceptor):
    """Replaces the responses by its own iterator over them."""

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        call = await continuation(client_call_details, request)

        async def louder() -> Any:
            async for response in call:
                yield response.upper()

        return louder()


class Reroute(grpc.aio.UnaryUnaryClientInterceptor):
    """Sends every call to the method `UnaryUnary`."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return await continuation(client_call_details._replace(method=UNARY_UNARY), request)


class Answer(grpc.aio.UnaryUnaryClientInterceptor):
    """Answers without a call."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        return b"cached"


class Again(grpc.aio.UnaryUnaryClientInterceptor):
    """Makes a call a second time if the first one fails."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        call = await continuation(client_call_details, request)
        if await call.code() is not grpc.StatusCode.OK:
            return await continuation(client_call_details, b"second")
        return call


async def test_interceptors_run_in_order(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """Each sees the call once and passes on what it changed; the server sees the result."""
    resolver.push(snapshot(1, servers[0].instance()))
    tags = [Tag("a"), Tag("b")]
    async with Channel("echo", resolver, interceptors=tags) as channel:
        assert await Echo(channel).unary_unary(b"metadata tags") == b"ab"
        assert [tag.seen for tag in tags] == [1, 1]


class Kill(grpc.aio.UnaryUnaryClientInterceptor):
    """Kills the server that the call is about to be sent to, over `channel`."""

    channel: Channel

    def __init__(self, *processes: EchoProcess) -> None:
        self.processes = processes

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        call = await continuation(client_call_details, request)
        kill_and_let_grpc_know(self.channel, *self.processes)
        return call


async def test_interceptors_see_a_call_once(
    tmp_path: Path, resolver: ManualResolver, servers: list[EchoServer]
) -> None:
    """A call that moves on to another endpoint is one call to them."""
    process = EchoProcess(tmp_path, "p0").start()
    tag, kill = Tag("a"), Kill(process)
    resolver.push(snapshot(1, process.instance()))
    async with Channel("echo", resolver, interceptors=[tag, kill], policy="pick_first") as channel:
        kill.channel = channel
        await all_connected(channel, 1)
        resolver.push(snapshot(2, process.instance(), servers[0].instance()))
        await all_connected(channel, 2)
        assert await Echo(channel).unary_unary(b"name") == b"s0"
        assert tag.seen == 1


async def test_an_interceptor_can_replace_responses(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """An iterator that it returns is what the caller iterates."""
    resolver.push(snapshot(1, servers[0].instance()))
    async with Channel("echo", resolver, interceptors=[Stream()]) as channel:
        responses = [response async for response in Echo(channel).unary_stream(b"repeat 2")]
        assert responses == [b"REPEAT 2"] * 2
        assert await Echo(channel).unary_unary(b"untouched") == b"untouched"


async def test_an_interceptor_can_change_the_method(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """The call goes to the method that it names, with the serializers of the method that was called."""
    resolver.push(snapshot(1, servers[0].instance()))
    async with Channel("echo", resolver, interceptors=[Reroute()]) as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[str, str] = channel.unary_unary("/a/b", str.encode, bytes.decode)
        assert await method("x") == "x"


async def test_an_interceptor_can_answer(resolver: ManualResolver) -> None:
    """If it does not continue there is no call, and no endpoint is needed."""
    async with Channel("echo", resolver, interceptors=[Answer()]) as channel:
        assert await Echo(channel).unary_unary(b"x", timeout=1) == b"cached"


async def test_an_interceptor_can_call_again(resolver: ManualResolver, servers: list[EchoServer]) -> None:
    """It may continue more than once."""
    resolver.push(snapshot(1, servers[0].instance()))
    async with Channel("echo", resolver, interceptors=[Again()]) as channel:
        assert await Echo(channel).unary_unary(b"fail ABORTED no") == b"second"


async def test_what_is_no_interceptor_is_refused(resolver: ManualResolver) -> None:
    """The error names it."""
    with pytest.raises(ValueError, match="object"):
        Channel("echo", resolver, interceptors=[object()])  # type: ignore[list-item]


async def test_intercepted_methods_show_themselves(resolver: ManualResolver) -> None:
    """The repr of a multicallable names the method."""
    async with Channel("echo", resolver, interceptors=[Answer()]) as channel:
        assert repr(Echo(channel).unary_unary) == "<InterceptedUnaryUnary /test.Echo/UnaryUnary>"
    async with Channel("echo", resolver) as channel:
        assert repr(Echo(channel).unary_unary) == "<UnaryUnaryMultiCallable /test.Echo/UnaryUnary>"
