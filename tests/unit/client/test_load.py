from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from grpc_balancer.load import Handle, Outstanding


class LoadMachine(RuleBasedStateMachine):
    """Any interleaving of begins and ends, some of them repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.load = Outstanding()
        self.open: list[Handle] = []
        self.ended: list[Handle] = []

    @rule()
    def begin(self) -> None:
        self.open.append(self.load.begin())

    @rule(which=st.integers(min_value=0))
    def end(self, which: int) -> None:
        if self.open:
            handle = self.open.pop(which % len(self.open))
            handle.end()
            self.ended.append(handle)

    @rule(which=st.integers(min_value=0))
    def end_again(self, which: int) -> None:
        if self.ended:
            self.ended[which % len(self.ended)].end()

    @invariant()
    def counts_what_is_open(self) -> None:
        assert self.load.count == len(self.open)


TestLoad = LoadMachine.TestCase


@given(st.integers(min_value=1, max_value=20))
async def test_idle_comes_with_the_last_end(calls: int) -> None:
    """`wait_idle` returns when the last call has ended, and not before."""
    load = Outstanding()
    handles = [load.begin() for _ in range(calls)]
    idle = asyncio.ensure_future(load.wait_idle())
    for handle in handles:
        await asyncio.sleep(0)
        assert not idle.done()
        handle.end()
    async with asyncio.timeout(1):
        await idle


async def test_idle_survives_a_waiter_that_gave_up() -> None:
    """A cancelled wait for idleness disturbs neither the count nor the next wait."""
    load = Outstanding()
    handle = load.begin()
    impatient = asyncio.ensure_future(load.wait_idle())
    await asyncio.sleep(0)
    impatient.cancel()
    handle.end()
    async with asyncio.timeout(1):
        await load.wait_idle()
    assert repr(load) == "<Outstanding 0>"
