"""`shop serve --workers N`: a service as several processes, each an instance with a port of its own.

Python runs on one core a process, so a machine with several is used by several. They are separate instances and not one
that shares a port, since the kernel spreads connections over such sharers unevenly, and no balancer could see it.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial

from grpc_registry import connect
from shop_services.launch.commands import identity_of, service_command
from shop_services.launch.departures import Departures
from shop_services.launch.plan import check_registry, metrics_variables
from shop_services.launch.ports import Ports
from shop_services.launch.program import Program
from shop_services.launch.session import Say, drain_seconds, draw_again, run_session
from shop_services.launch.supervisor import Supervisor
from shop_services.runtime.settings import Settings
from shop_services.runtime.tls import registry_url


async def serve_workers(service: str, environment: Mapping[str, str], workers: int, *, say: Say, complain: Say) -> int:
    """Keep `workers` instances of `service` running until a signal. Their output goes where this process's goes.

    With SHOP_PORT=P they take the ports P, P+1 …, else each a free one; with SHOP_METRICS_PORT likewise, else none.
    Returns the exit code, as `run_session` does.

    Raises:
        SettingError: a variable of the environment cannot be used; nothing was started.
    """
    settings = Settings.from_environment(environment)
    check_registry(settings.registry_url)

    async def attempt() -> int:
        free = Ports(random.Random())
        ports = [settings.port + number if settings.port else free.next() for number in range(workers)]
        programs = {
            settings.address(port): Program(
                f"{service}-{number}",
                service_command(service),
                {**environment, "SHOP_PORT": str(port), **metrics_variables(settings, number - 1)},
                drawn_ports=() if settings.port else (port,),
            )
            for number, port in enumerate(ports, start=1)
        }
        for program in programs.values():
            Settings.from_environment(program.environment)  # the last ports may lie beyond the highest there is
        departures = Departures()

        async def work(supervisor: Supervisor) -> int:
            for address, program in programs.items():
                supervisor.start(program, partial(departures.note, address))
            async with connect(registry_url(settings, identity_of(service))) as registry:
                return await departures.run(registry)

        return await run_session(work, drain_seconds=drain_seconds(settings), say=say, complain=complain)

    return await draw_again(attempt, complain)
