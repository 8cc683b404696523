"""The provider told to misbehave: at every instance, and only after its work is done."""

from __future__ import annotations

import asyncio
from time import monotonic

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from shop.payment.v1 import payment_pb2 as pb
from shop_services.runtime.status import info_of
from tests.integration.payment.till import AUTHORIZED, CAPTURED, TIMEOUT, Start, Till, net
from tests.integration.product.shop import failure

ENOUGH = 4.0
"""Seconds within which a capture does its work, although this machine may stand still."""


async def test_all_instances_obey(start: Start) -> None:
    """What one instance is told, the other knows within a moment, and one that starts later from its beginning."""
    one, two = await start(), await start()
    assert await two.faults() == pb.Faults(delay=Duration())
    told = await one.misbehave(refuse=100, delay=Duration(nanos=1_500_000), silent=0)
    assert told == pb.Faults(refuse_percent=100, delay=Duration(nanos=1_500_000))
    async with asyncio.timeout(TIMEOUT):
        while await two.faults() != told:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.05)
    assert await (await start()).faults() == told
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await two.authorize("o1")
    assert info_of(caught.value).metadata["decline_code"] == "generic_decline"


async def test_faults_end(till: Till) -> None:
    """Set to nothing, they are gone, and what was refused by them stays refused."""
    await till.misbehave(refuse=100)
    await failure(till.authorize("o1"))
    await till.simulator.SetFaults(pb.SetFaultsRequest())
    assert (await till.authorize("o2")).state == AUTHORIZED
    assert "generic_decline" in (await failure(till.authorize("o1"))).message


async def test_a_refusal_by_chance_hits_new_payments_alone(till: Till) -> None:
    """What was authorized before stays so when it is asked for again."""
    await till.authorize("o1")
    await till.misbehave(refuse=100)
    assert (await till.authorize("o1")).state == AUTHORIZED


async def test_a_delay_is_taken_by_every_call(till: Till) -> None:
    """Authorizing, capturing and refunding all take it."""
    await till.misbehave(delay=Duration(nanos=100_000_000))
    began = monotonic()
    await till.authorize("o1")
    await till.capture("o1")
    await till.refund("o1")
    assert monotonic() - began >= 0.3


async def test_a_silent_call_has_done_its_work(till: Till) -> None:
    """The caller runs into its deadline, and the card is charged all the same."""
    await till.authorize("o1")
    await till.misbehave(silent=100)
    assert (await failure(till.capture("o1", timeout=ENOUGH))).code is grpc.StatusCode.DEADLINE_EXCEEDED
    payment = await till.get("o1")
    assert (payment.state, net(payment)) == (CAPTURED, 1250)


async def test_the_silent_card_answers_when_it_is_asked_again(till: Till) -> None:
    """Its first capture does the work and says nothing; the second says what was done."""
    await till.authorize("o1", method="pm_sim_silent")
    assert (await failure(till.capture("o1", timeout=ENOUGH))).code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert net(await till.capture("o1")) == 1250


async def test_faults_beyond_their_bounds_are_refused(till: Till) -> None:
    """More than all calls cannot be refused; the faults stay as they were."""
    assert (await failure(till.misbehave(refuse=101))).fields == ["faults.refuse_percent"]
    assert (await till.faults()).refuse_percent == 0
