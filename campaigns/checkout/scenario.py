"""One campaign from its beginning to its end."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from benchmarks.report import Report
from campaigns.checkout.facts import Asked
from campaigns.checkout.mails import arrived
from campaigns.checkout.opening import fill_catalog, open_accounts
from campaigns.checkout.plan import draw_plan
from campaigns.checkout.scene import open_scene
from campaigns.checkout.shoppers import Answers, Shoppers
from campaigns.checkout.streams import dead_letters
from campaigns.checkout.tables import open_tables
from campaigns.checkout.telling import Campaign, told
from campaigns.faults import break_things
from shop_services.runtime.operator import operator_channel

SETTLES_WITHIN = 180.0
"""Seconds from the last fault until all is done: more than an order may take until it times out."""

_PLACED_WITHIN, _TIMES_LONGER = 60.0, 15
"""Orders may be placed so many times more slowly than was asked for, and a minute beside, before the rest is let go."""

_DEATH = re.compile(r"(?P<name>[a-z-]+?)(-[0-9]+)? \(pid [0-9]+\) (?P<how>[^;:]+)")
"""What the supervisor says of a process that has ended."""


async def run(
    directory: Path,
    *,
    orders: int,
    rate: float,
    seed: int,
    database: str,
    tell: Callable[[str], None] = lambda line: None,
) -> Report:
    """Place so many orders, at most `rate` a second, in a shop whose `database` is "postgresql" or "sqlite".

    Files go into `directory`. Every fault is told as it happens.
    """
    plan, answers, deaths = draw_plan(orders, Random(seed)), Answers(), Counter[str]()

    def ended(line: str) -> None:
        if (death := _DEATH.match(line)) and "SIGKILL" not in death["how"]:
            deaths[f"{death['name']} {death['how']}"] += 1

    async with open_scene(directory, database, Random(f"{seed}/cut"), ended) as scene, open_tables(scene) as tables:
        users = await open_accounts(scene.registry, scene.settings)
        products = await fill_catalog(scene.registry, scene.settings, plan.products)
        tell(f"the shop is open; its logs are in {directory / 'logs'}")
        began = time.monotonic()
        calling = operator_channel("order", scene.registry, scene.settings)
        async with calling as channel, asyncio.TaskGroup() as tasks:
            stop = asyncio.Event()
            breaking = tasks.create_task(break_things(scene.victims, Random(f"{seed}/faults"), stop, tell))
            with suppress(TimeoutError):
                async with asyncio.timeout(_PLACED_WITHIN + _TIMES_LONGER * orders / rate):
                    await Shoppers(channel, users, products, seed, answers).shop(plan.purchases, rate)
            stop.set()
        placed = time.monotonic()
        tell(f"{placed - began:6.1f} s  all is asked for, the faults end")
        left = await tables.settled(SETTLES_WITHIN)
        settled = time.monotonic()
        tell(f"{settled - began:6.1f} s  {'the shop has settled' if not left else f'still under way: {left}'}")
        initial = {id: product.stock for id, product in zip(products, plan.products, strict=True)}
        campaign = Campaign(
            settings={"orders": orders, "rate": f"{rate:g}", "seed": seed, "database": database},
            asked=Asked(initial, answers.orders, answers.cancelled),
            answers=answers,
            found=await tables.read(arrived(scene.mails)),
            dead_letters=await dead_letters(scene.settings.nats_url),
            left=left,
            faults=breaking.result(),
            deaths=deaths,
            placing=placed - began,
            settling=settled - placed,
        )
    return told(campaign)
