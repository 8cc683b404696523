"""The journey as a guest of `shop up --demo`."""

from __future__ import annotations

import secrets

from shop_services.demo.front import Front
from shop_services.demo.journey import play
from shop_services.demo.stage import Stage
from shop_services.demo.story import Story
from shop_services.launch.session import Say
from shop_services.launch.up import Shop
from shop_services.runtime.serve import connect
from shop_services.runtime.tls import OPERATOR


async def visit(shop: Shop, say: Say) -> int:
    """Play the journey in a shop that is ready; returns 0 if all of it worked, else 1."""
    settings = shop.plan.settings
    ca = None if settings.tls_dir is None else settings.tls_dir / "ca.pem"
    async with connect(settings, OPERATOR) as registry:
        stage = Stage(
            Story(say),
            Front(shop.plan.gateway_url, ca),
            registry,
            settings,
            kill=shop.kill_one,
            token=secrets.token_hex(3),
            mailbox=shop.plan.mailbox,
        )
        return 0 if await play(stage) else 1
