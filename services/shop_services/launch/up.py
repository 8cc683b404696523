"""`shop up`: the whole shop on this machine, from nothing to `ready:` and back."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from grpc_registry import Directory, connect
from shop_services.launch.advertised import check_advertised
from shop_services.launch.catalog import fill_if_empty
from shop_services.launch.data import DataDirectory
from shop_services.launch.departures import Departures
from shop_services.launch.interrupts import first
from shop_services.launch.plan import GATEWAY, Plan, plan_shop, shown
from shop_services.launch.program import Part
from shop_services.launch.readiness import Instances, answers, wait_ready
from shop_services.launch.session import Say, drain_seconds, draw_again, forever, run_session
from shop_services.launch.supervisor import Child, Supervisor
from shop_services.runtime.settings import Settings

READY_SECONDS = 90.0
"""How long the servers, then services and workers, then gateways may take to be ready: on two idle cores, a few."""


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop that is ready: what a guest needs to know of it."""

    plan: Plan
    children: Mapping[Part, Child]

    def kill_one(self, service: str) -> int:
        """End one process of a service by SIGKILL, and return its pid. It is started again, as after any death.

        Raises:
            LookupError: none runs.
        """
        for part, child in self.children.items():
            if part.service == service and (pid := child.pid) is not None:
                child.signal(signal.SIGKILL)
                return pid
        raise LookupError(f"no instance of {service} runs")


Guest = Callable[[Shop, Say], Coroutine[Any, Any, int]]
"""What happens once the shop is ready; the shop closes when it ends, and its exit code is the shop's."""


async def up(
    environment: Mapping[str, str],
    *,
    replicas: int,
    port: int,
    say: Say,
    complain: Say,
    guest: Guest | None = None,
) -> int:
    """Start every service in `replicas` processes, and keep them running until a signal, or until `guest` has ended.

    `port` is the first gateway's; 0 chooses a free one.

    Returns the exit code, as `run_session` does.

    Raises:
        LaunchError: something is missing or in use; nothing was started.
        SettingError: a variable of the environment cannot be used; nothing was started.
    """
    settings = Settings.from_environment(environment)
    await check_advertised(settings)
    with DataDirectory(settings.data) as directory:
        return await draw_again(
            lambda: _up(
                plan_shop(environment, directory, replicas=replicas, port=port, rng=random.Random()),
                settings,
                say=say,
                complain=complain,
                guest=guest,
            ),
            complain,
        )


async def _up(plan: Plan, settings: Settings, *, say: Say, complain: Say, guest: Guest | None) -> int:
    departures = Departures()

    async def work(supervisor: Supervisor) -> int:
        began = time.monotonic()
        shop = await _start(plan, supervisor, departures, say)
        async with connect(plan.registry_url) as registry:
            await _make_ready(plan, registry, say, fill=plan.embedded_databases or guest is not None)
            _present(shop, time.monotonic() - began, say)
            stay = forever() if guest is None else guest(shop, say)
            return await first(stay, departures.run(registry))

    return await run_session(
        work,
        drain_seconds=drain_seconds(settings),
        say=say,
        complain=complain,
        interrupted=0 if guest is None else 1,
    )


async def _start(plan: Plan, supervisor: Supervisor, departures: Departures, say: Say) -> Shop:
    """Start all at once, in no order: whoever needs a server or a service waits for it. Returns when servers answer."""
    brought = "".join(f", {server.service}" for server in plan.servers)
    say(f"starting {len(plan.parts)} services and workers{brought}; data and logs in {plan.data}")
    children = {}
    for part in (*plan.servers, *plan.parts):
        children[part] = supervisor.start(part.program, partial(departures.note, part.address))
    await wait_ready(plan.servers, answers, seconds=READY_SECONDS)
    return Shop(plan, children)


async def _make_ready(plan: Plan, registry: Directory, say: Say, *, fill: bool) -> None:
    services = [part for part in plan.parts if part.service != GATEWAY]  # and workers
    gateways = [part for part in plan.parts if part.service == GATEWAY]
    async with Instances(registry) as instances:
        await wait_ready(services, instances.serve, seconds=READY_SECONDS)
    if fill:
        await _fill_catalog(next(part for part in services if part.service == "product"), say)
    await wait_ready(gateways, answers, seconds=READY_SECONDS)


def _present(shop: Shop, seconds: float, say: Say) -> None:
    for part, child in shop.children.items():
        say(f"  {part.program.name:<20} {part.address:<22} pid {child.pid}")
    registry, bus = shown(shop.plan.registry_url), shown(shop.plan.nats_url)
    say(f"try  curl {shop.plan.gateway_url}/v1/products")
    say(f"     REGISTRY_URL={registry} meshctl ls")
    say(f"     NATS_URL={bus} shop dlq ls")
    if shop.plan.mailbox is not None:
        say(f"     shop mail ls --data {shop.plan.data}")
    took = f"{len(shop.children)} processes in {seconds:.1f} s"
    say(f"ready: {shop.plan.gateway_url} {registry} {bus} ({took})")


async def _fill_catalog(product: Part, say: Say) -> None:
    if products := await fill_if_empty(product.address):
        say(f"the catalog was empty and has {products} products now")
