"""The provider as a process: crashing after it charged, saying nothing, and told to stop meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import grpc
import pytest

from grpc_registry import connect
from shop_services.order import payments
from shop_services.order.payments import PaymentService
from shop_services.payment.simulation import CRASHED
from shop_services.runtime.errors import Unavailable
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.operator import operator_channel
from shop_services.runtime.outgoing import service_channel
from shop_services.runtime.settings import Settings
from tests.integration.payment.till import AMOUNT, CAPTURED, Till, net
from tests.servers import Etcd
from tests.servers.service import ServiceProcess


@dataclass
class Provider:
    """The provider on a real registry, asked as orders ask it; `start` starts a process of it, with one database."""

    environment: dict[str, str]
    data: Path
    processes: ExitStack
    channels: Sequence[grpc.aio.Channel]
    payments: PaymentService
    till: Till

    async def start(self, name: str) -> ServiceProcess:
        process = ServiceProcess("payment", self.data / name, self.environment)
        self.processes.callback(process.kill)
        await asyncio.to_thread(process.start)
        # It listens before it is registered, and a call that finds nobody registered does not wait for that.
        async with asyncio.timeout(60):
            for channel in self.channels:
                await channel.channel_ready()
        return process


@pytest.fixture
async def provider(shared_etcd: Etcd, tmp_path: Path) -> AsyncIterator[Provider]:
    url = f"{shared_etcd.url}/{uuid4().hex}"
    environment = {"REGISTRY_URL": url, "SHOP_DATA": str(tmp_path), "SHOP_PROPAGATION": "0.2"}
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(connect(url))
        settings = Settings(data=tmp_path)
        as_order = Authority.open(settings, "order")
        channel = await stack.enter_async_context(service_channel("payment", registry, settings, as_order))
        tests = await stack.enter_async_context(operator_channel("payment", registry, settings))
        processes = stack.enter_context(ExitStack())
        yield Provider(environment, tmp_path, processes, (channel, tests), PaymentService(channel), Till(tests))


def ended(process: ServiceProcess) -> int:
    """The exit status of a process that ends by itself."""
    assert process._process is not None
    return process._process.wait(20)


async def test_a_crash_after_the_charge_charges_once(provider: Provider) -> None:
    """The process ends when the money is taken; the call is repeated until another process answers, and takes none."""
    first = await provider.start("first")
    await provider.payments.authorize("o1", AMOUNT, "pm_sim_crash")
    with pytest.raises(Unavailable):
        await provider.payments.capture("o1")
    assert await asyncio.to_thread(ended, first) == CRASHED
    assert "simulated_crash" in first.log.read_text()
    await provider.start("second")
    async with asyncio.timeout(20):
        while True:
            try:
                await provider.payments.capture("o1")
                break
            except Unavailable:
                await asyncio.sleep(0.1)
    payment = await provider.till.get("o1")
    assert (payment.state, net(payment), len(payment.entries)) == (CAPTURED, 1250, 2)


async def test_silence_after_the_charge_charges_once(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller gives up at its deadline, asks again, and the card was charged once."""
    await provider.start("only")
    await provider.payments.authorize("o1", AMOUNT, "pm_sim_silent")
    monkeypatch.setattr(payments, "TIMEOUT", 4.0)  # enough to do the work, on a machine that stands still
    with pytest.raises(Unavailable, match="DEADLINE_EXCEEDED"):
        await provider.payments.capture("o1")
    monkeypatch.setattr(payments, "TIMEOUT", 30.0)
    await provider.payments.capture("o1")
    payment = await provider.till.get("o1")
    assert (payment.state, net(payment), len(payment.entries)) == (CAPTURED, 1250, 2)


async def test_a_process_that_is_told_to_stop_does_not_wait_for_the_silent(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM lets go of callers that are told nothing, long before their deadline and the grace of 20 s."""
    monkeypatch.setattr(payments, "TIMEOUT", 60.0)
    only = await provider.start("only")
    await provider.payments.authorize("o1", AMOUNT, "pm_sim_silent")
    silent = asyncio.create_task(provider.payments.capture("o1"))
    async with asyncio.timeout(20):
        while (await provider.till.get("o1")).state != CAPTURED:  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.02)
    async with asyncio.timeout(9):
        await asyncio.to_thread(only.stop)
    silent.cancel()
    await asyncio.gather(silent, return_exceptions=True)
    assert '"stopped"' in only.log.read_text()
