"""The journey as a guest of `shop up --demo`."""

from __future__ import annotations

import secrets

import grpc_registry
from shop_services.demo.front import Front
from shop_services.demo.journey import play
from shop_services.demo.stage import Stage
from shop_services.demo.story import Story
from shop_services.launch.session import Say
from shop_services.launch.up import Shop


async def visit(shop: Shop, say: Say) -> int:
    """Play the journey in a shop that is ready; returns 0 if all of it worked, else 1."""
    async with grpc_registry.connect(shop.plan.registry_url) as registry:
        stage = Stage(
            Story(say),
            Front(shop.plan.gateway_url),
            registry,
            kill=shop.kill_one,
            token=secrets.token_hex(3),
            mailbox=shop.plan.mailbox,
        )
        return 0 if await play(stage) else 1
