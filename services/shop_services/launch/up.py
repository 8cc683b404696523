"""`shop up`: the whole shop on this machine, from nothing to `ready:` and back."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from shlex import quote
from typing import Any, NoReturn

from grpc_registry import Directory, connect
from shop_services.launch.advertised import check_advertised
from shop_services.launch.catalog import fill_if_empty
from shop_services.launch.data import DataDirectory
from shop_services.launch.departures import Departures
from shop_services.launch.embedded import NATS
from shop_services.launch.interrupts import first
from shop_services.launch.logs import brief
from shop_services.launch.nats import keep_current
from shop_services.launch.plan import GATEWAY, Plan, plan_shop, shown
from shop_services.launch.program import Part
from shop_services.launch.readiness import Instances, answers, part_channel, wait_ready
from shop_services.launch.session import Say, drain_seconds, draw_again, forever, run_session
from shop_services.launch.supervisor import Child, Supervisor
from shop_services.runtime.settings import Settings
from shop_services.runtime.tls import OPERATOR, registry_url, tls_files

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
    tls: bool = False,
) -> int:
    """Start every service in `replicas` processes, and keep them running until a signal, or until `guest` has ended.

    `port` is the first gateway's; 0 chooses a free one. With `tls` everything is encrypted; unless SHOP_TLS_DIR names
    certificates, they are made in the data directory.

    Returns the exit code, as `run_session` does.

    Raises:
        LaunchError: something is missing or in use; nothing was started.
        SettingError: a variable of the environment cannot be used; nothing was started.
    """
    settings = Settings.from_environment(environment)
    await check_advertised(settings)
    with DataDirectory(settings.data) as directory:
        if tls and settings.tls_dir is None:
            environment = {**environment, **_certified(directory, settings)}
        return await draw_again(
            lambda: _up(
                plan_shop(environment, directory, replicas=replicas, port=port, rng=random.Random()),
                say=say,
                complain=complain,
                guest=guest,
            ),
            complain,
        )


def _certified(directory: DataDirectory, settings: Settings) -> Mapping[str, str]:
    """New certificates in the data directory, also for the address at which the gateway is reached; the variable."""
    from shop_services.launch.certificates import make_certificates

    front = settings.address(0).rpartition(":")[0].strip("[]")
    make_certificates(directory.tls, now=datetime.now(UTC), hosts={GATEWAY: [front]})
    return {"SHOP_TLS_DIR": str(directory.tls)}


async def _up(plan: Plan, *, say: Say, complain: Say, guest: Guest | None) -> int:
    settings = plan.settings
    departures = Departures()

    async def work(supervisor: Supervisor) -> int:
        began = time.monotonic()
        shop = await _start(plan, supervisor, departures, say)
        async with connect(registry_url(settings, OPERATOR)) as registry:
            await _make_ready(plan, registry, say, fill=not settings.database_url or guest is not None)
            _present(shop, time.monotonic() - began, say)
            stay = forever() if guest is None else guest(shop, say)
            return await first(stay, departures.run(registry), _keep_servers_current(shop))

    return await run_session(
        work,
        drain_seconds=drain_seconds(settings),
        say=say,
        complain=complain if guest is None else lambda report: complain(brief(report)),
        interrupted=0 if guest is None else 1,
    )


async def _start(plan: Plan, supervisor: Supervisor, departures: Departures, say: Say) -> Shop:
    """Start all at once, in no order: whoever needs a server or a service waits for it. Returns when servers answer."""
    brought = "".join(f", {server.service}" for server in plan.servers)
    say(f"starting {len(plan.parts)} services and workers{brought}; data and logs in {plan.settings.data}")
    children = {}
    for part in (*plan.servers, *plan.parts):
        children[part] = supervisor.start(part.program, partial(departures.note, part.address))
    await wait_ready(plan.servers, partial(answers, settings=plan.settings), seconds=READY_SECONDS)
    return Shop(plan, children)


async def _keep_servers_current(shop: Shop) -> NoReturn:
    """The servers that were brought along use certificates that are replaced; until it is cancelled."""
    child = next((child for part, child in shop.children.items() if part.service == NATS), None)
    tls = tls_files(shop.plan.settings, NATS)
    if child is None or tls is None:
        await forever()
    else:
        await keep_current(tls, child.signal)
    raise AssertionError("unreachable")


async def _make_ready(plan: Plan, registry: Directory, say: Say, *, fill: bool) -> None:
    services = [part for part in plan.parts if part.service != GATEWAY]  # and workers
    gateways = [part for part in plan.parts if part.service == GATEWAY]
    async with Instances(registry, plan.settings) as instances:
        await wait_ready(services, instances.serve, seconds=READY_SECONDS)
    if fill:
        product = part_channel(next(part for part in services if part.service == "product"), plan.settings)
        if products := await fill_if_empty(product, plan.settings):
            say(f"the catalog was empty and has {products} products now")
    await wait_ready(gateways, partial(answers, settings=plan.settings), seconds=READY_SECONDS)


def _present(shop: Shop, seconds: float, say: Say) -> None:
    for part, child in shop.children.items():
        say(f"  {part.program.name:<20} {part.address:<22} pid {child.pid}")
    settings = shop.plan.settings
    registry, bus = shown(settings.registry_url), shown(settings.nats_url)
    trusting, certified = "", ""
    if settings.tls_dir is not None:
        trusting = f"--cacert {quote(str(settings.tls_dir / 'ca.pem'))} "
        certified = f"SHOP_TLS_DIR={quote(str(settings.tls_dir))} "
    say(f"try  curl {trusting}{shop.plan.gateway_url}/v1/products")
    say(f"     REGISTRY_URL={quote(shown(registry_url(settings, OPERATOR)))} meshctl ls")
    say(f"     {certified}NATS_URL={bus} shop dlq ls")
    if shop.plan.mailbox is not None:
        say(f"     shop mail ls --data {settings.data}")
    took = f"{len(shop.children)} processes in {seconds:.1f} s"
    say(f"ready: {shop.plan.gateway_url} {registry} {bus} ({took})")
