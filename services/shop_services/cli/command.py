"""What `shop` understands. `up`, `serve` and `worker` are here; the other modules bring their own."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn, TextIO

from shop_services.cli import cache, certs, dlq, keys, mail
from shop_services.launch.commands import SERVICES, service_command, worker_command, worker_environment
from shop_services.launch.errors import LaunchError
from shop_services.launch.plan import check_bus
from shop_services.launch.program import REFUSED
from shop_services.launch.session import KILLED
from shop_services.launch.up import up
from shop_services.launch.workers import serve_workers
from shop_services.messaging.bus import TOPICS
from shop_services.runtime.logs import silence_eof
from shop_services.runtime.settings import SettingError, Settings, environment, unknown_variables

_UP = """
Starts every service of the shop as several processes, and a worker for each topic; with an etcd, a NATS and a mail
server of its own unless REGISTRY_URL, NATS_URL or SHOP_SMTP_URL names another, and with SQLite databases unless
DATABASE_URL does. Prints "ready: GATEWAY REGISTRY NATS" when all answer, starts again what dies, stays until Ctrl-C.
"""
_SERVE = """
Runs a service in the foreground until SIGTERM or Ctrl-C. REGISTRY_URL, DATABASE_URL, CACHE_URL and the SHOP_ variables
set it up; a flag goes before its variable.
"""
_WORKER = """
Handles the messages of a topic until SIGTERM or Ctrl-C; any number of workers may share one. NATS_URL, REGISTRY_URL,
DATABASE_URL and the SHOP_ variables set it up; a flag goes before its variable.
"""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 (it failed), 2 (a wrong flag or variable)."""
    options = _parser().parse_args(arguments)
    silence_eof()
    try:
        return int(options.run(options))
    except SettingError as error:
        _complain(f"shop {options.command}: {_with_flag(error, options)}")
        return REFUSED
    except (LaunchError, OSError) as error:
        _complain(f"shop {options.command}: {error}")
        return 1
    except KeyboardInterrupt:  # so early that there was nothing to stop
        return KILLED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="shop", description="A shop of gRPC services.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="start the whole shop on this machine", description=_UP)
    up.add_argument("--replicas", type=_whole(1, 16), default=2, metavar="N", help="instances of each service (2)")
    up.add_argument("--data", metavar="DIR", help="databases, etcd's data and logs (SHOP_DATA, or .shop)")
    up.add_argument(
        "--port", type=_whole(0, 65535), default=8080, help="port of the first gateway (8080; 0 chooses a free one)"
    )
    up.add_argument(
        "--tls",
        action="store_true",
        help="encrypt everything, with certificates made in DIR unless SHOP_TLS_DIR is set",
    )
    up.add_argument("--demo", action="store_true", help="play a shopper's journey, then stop: 0 if all of it worked")
    up.set_defaults(run=_up)

    serve = commands.add_parser("serve", help="run one service", description=_SERVE)
    serve.add_argument("service", choices=SERVICES, metavar="SERVICE", help=", ".join(SERVICES))
    serve.add_argument("--port", metavar="P", help="port to listen on (SHOP_PORT; else a free one, the gateway 8080)")
    serve.add_argument("--weight", metavar="N", help="share of calls relative to others (SHOP_WEIGHT, or 100)")
    serve.add_argument(
        "--workers", type=_whole(1, 64), default=1, metavar="N", help="processes, on ports P, P+1 …, or free ones (1)"
    )
    serve.set_defaults(run=_serve)

    worker = commands.add_parser("worker", help="handle the messages of one topic", description=_WORKER)
    worker.add_argument("topic", choices=TOPICS, metavar="TOPIC", help=", ".join(TOPICS))
    worker.add_argument(
        "--concurrency", metavar="N", help="messages at a time (SHOP_CONCURRENCY, or 3, 2, 2 and 1 by topic)"
    )
    worker.set_defaults(run=_worker)

    dlq.add_commands(commands)
    mail.add_commands(commands)
    cache.add_commands(commands)
    keys.add_commands(commands)
    certs.add_commands(commands)
    return parser


def _up(options: argparse.Namespace) -> int:
    guest = None
    if options.demo:
        if options.replicas < 2:
            raise SettingError("--replicas", "must be 2 or more for --demo, which kills an instance while others shop")
        from shop_services.demo.guest import visit  # loads stubs and a balancer, which nobody else needs

        guest = visit
    variables = _variables(options, SHOP_DATA=options.data)
    return asyncio.run(
        up(
            variables,
            replicas=options.replicas,
            port=options.port,
            say=_say,
            complain=_complain,
            guest=guest,
            tls=options.tls,
        )
    )


def _serve(options: argparse.Namespace) -> int:
    variables = _variables(options, SHOP_PORT=options.port, SHOP_WEIGHT=options.weight)
    Settings.from_environment(variables)
    if options.workers == 1:
        _become(service_command(options.service), variables)
    return asyncio.run(serve_workers(options.service, variables, options.workers, say=_say, complain=_complain))


def _worker(options: argparse.Namespace) -> NoReturn:
    variables = worker_environment(_variables(options, SHOP_CONCURRENCY=options.concurrency))
    check_bus(Settings.from_environment(variables).nats_url)
    _become(worker_command(options.topic), variables)


def _become(command: tuple[str, ...], variables: dict[str, str]) -> NoReturn:
    """Let the command take this process's place, so that signals, output and exit code are its own."""
    os.execve(command[0], command, variables)  # noqa: S606 - no shell takes part


def _variables(options: argparse.Namespace, **flags: str | None) -> dict[str, str]:
    """This process's variables, with the values of the flags that were given in their place; warns of unknown ones."""
    for line in unknown_variables(environment()):
        _complain(f"shop {options.command}: {line}")
    return environment() | {variable: value for variable, value in flags.items() if value is not None}


def _with_flag(error: SettingError, options: argparse.Namespace) -> str:
    """The error's message, which names the flag where that is what set the variable."""
    flag = error.variable.removeprefix("SHOP_").lower()
    given = error.variable.startswith("SHOP_") and isinstance(getattr(options, flag, None), str)
    return str(error).replace(error.variable, f"--{flag}", 1) if given else str(error)


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return int(text)

    return parse


def _say(line: str) -> None:
    _write(sys.stdout, line)


def _complain(line: str) -> None:
    _write(sys.stderr, line)


def _write(stream: TextIO, line: str) -> None:
    """Print a line at once. Whoever reads may have gone (`shop up | head -1`, a closed terminal): no reason to stop."""
    with suppress(OSError):
        print(line, file=stream, flush=True)
