"""The only place that puts the parts of the payment provider together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random

from grpc_registry import Registry
from shop.payment.v1 import payment_pb2, payment_pb2_grpc
from shop_services.payment.faults import FaultStore
from shop_services.payment.servicer import PaymentServicer, SimulatorServicer
from shop_services.payment.simulation import Simulation
from shop_services.payment.usecases import Payments
from shop_services.runtime.app import App
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.settings import Settings
from shop_services.runtime.times import utc_now
from shop_services.storage import Database, migrate

NAME = "payment"
MIGRATIONS = Path(__file__).parent / "migrations"


@asynccontextmanager
async def wire(settings: Settings, registry: Registry) -> AsyncIterator[App]:
    """The payment provider; it calls no other service, so it has no use for `registry`."""
    authority = Authority.open(settings, NAME)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.of(settings, NAME))
        await migrate(database, NAME, MIGRATIONS)
        faults = FaultStore(database)
        simulation = Simulation(faults.current, Random())
        payments = PaymentServicer(Payments(database, simulation, utc_now))
        services = payment_pb2.DESCRIPTOR.services_by_name
        yield App(
            NAME,
            {
                services["PaymentService"].full_name: partial(
                    payment_pb2_grpc.add_PaymentServiceServicer_to_server, payments
                ),
                services["PaymentSimulatorService"].full_name: partial(
                    payment_pb2_grpc.add_PaymentSimulatorServiceServicer_to_server, SimulatorServicer(faults)
                ),
            },
            drain=simulation.stop,
            authority=authority,
        )
