"""The chapters in which a process dies in the middle of an order, at the worst moment."""

from __future__ import annotations

import asyncio

from shop_services.demo.evidence import charged, mailed, stock, stock_becomes
from shop_services.demo.ordering import SLOW_CARD, follow, place, sold, watch
from shop_services.demo.shopping import price
from shop_services.demo.stage import Stage

_INTO_THE_CHARGE = 0.3
"""Seconds after the order was PROCESSING: the slow card is being charged by then, and for much longer."""


async def lose_a_worker(stage: Stage) -> None:
    """The worker that charges her card is killed meanwhile. What becomes of the order is seen in a later chapter."""
    stage.order = await place(stage, "worker", SLOW_CARD)
    await watch(stage, stage.order, {"PROCESSING"})
    await asyncio.sleep(_INTO_THE_CHARGE)
    pid = stage.kill("payments-worker")
    stage.story.note(f"kill -9 {pid}, the worker of payments, while it charges the card")


async def lose_the_provider(stage: Stage) -> None:
    """The payment provider takes her money and dies before it says so. It is asked again, and charges her once."""
    before = await stock(stage)
    stage.story.note("the card tells the simulated provider to end its own process; it says so below")
    placed = await place(stage, "provider", "pm_sim_crash")
    await follow(stage, placed, "PENDING", "PROCESSING", "PAID", "FULFILLED")
    await charged(stage, placed["id"], price(placed["total"]))
    await stock_becomes(stage, sold(before))


async def see_it_done(stage: Stage) -> None:
    """Another worker was given the dead one's message: the order is fulfilled, and the card was charged once."""
    await follow(stage, stage.order, "PENDING", "PROCESSING", "PAID", "FULFILLED")
    await charged(stage, stage.order["id"], price(stage.order["total"]))
    await mailed(stage, stage.order["id"])
