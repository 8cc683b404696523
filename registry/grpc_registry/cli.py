"""`meshctl`: look at a registry and change weights, states and service configs, from a shell.

Exit status: 0 done; 1 the registry could not be reached, or refused; 2 wrong usage, a wrong URL or service config among
it; 3 no such instance or service config, or several instances where one is meant. Errors are one line on stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from importlib import metadata
from pathlib import Path

from grpc_registry.connecting import connect
from grpc_registry.contract import Registry
from grpc_registry.errors import InvalidInstance, InvalidUrl, RegistryError, UnknownConfig, UnknownInstance
from grpc_registry.instance import MAX_WEIGHT, Instance, Snapshot, State, Unresolved, check_name, check_weight
from grpc_registry.service_config import POLICIES, InvalidServiceConfig
from grpc_registry.service_config.hints import hints

DEFAULT_REGISTRY = "etcd://127.0.0.1:2379"

_DONE, _FAILED, _USAGE, _UNKNOWN, _INTERRUPTED = 0, 1, 2, 3, 130  # 130: as a shell says it of SIGINT
_COLUMNS = ("service", "id", "address", "weight", "state", "zone", "version", "lease_ttl")


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run `meshctl` and return its exit status; usage errors exit with 2, as argparse does."""
    options = _parser().parse_args(arguments)
    _log_to_stderr()
    source = "REGISTRY_URL" if options.registry is None and environ.get("REGISTRY_URL") else "--registry"
    try:
        if options.command == "config set":
            options.text = _config_text(options.file)
        registry = connect(options.registry or environ.get("REGISTRY_URL") or DEFAULT_REGISTRY)
        asyncio.run(_run(registry, options))
        sys.stdout.flush()
    except InvalidUrl as error:
        return _fail(_USAGE, f"{source}: {error}")
    except (InvalidServiceConfig, Unreadable) as error:
        return _fail(_USAGE, error)
    except (UnknownInstance, UnknownConfig) as error:
        return _fail(_UNKNOWN, error)
    except RegistryError as error:
        return _fail(_FAILED, error)
    except BrokenPipeError:
        # The reader (`| head`) has enough. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _DONE
    except KeyboardInterrupt:
        return _INTERRUPTED
    return _DONE


class Unreadable(Exception):
    """A file that an argument names cannot be read; the message says which and why."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="meshctl",
        description="Look at a registry and change what is in it.",
        epilog="Exit status: 0 done, 1 failed, 2 wrong usage, 3 no such instance or config (or several IDs begin so).",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {metadata.version('grpc-registry')}")
    parser.add_argument("--registry", metavar="URL", help=f"default: $REGISTRY_URL, else {DEFAULT_REGISTRY}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")

    listing = command("ls", "list the registered instances")
    watching = command("watch", "print the registered instances, then every change, until interrupted")
    for subparser in (listing, watching):
        subparser.add_argument("service", nargs="?", type=_service, metavar="SERVICE", help="only of this service")
    listing.add_argument("-o", "--output", choices=("table", "json"), default="table", help="json: one array")
    watching.add_argument("-o", "--output", choices=("text", "json"), default="text", help="json: an object per line")
    weighting = command("weight", "change an instance's weight")
    draining = command("drain", "take an instance out of rotation; its process goes on")
    undraining = command("undrain", "put an instance back into rotation")
    for subparser in (weighting, draining, undraining):
        subparser.add_argument("service", type=_service, metavar="SERVICE")
        subparser.add_argument(
            "id", type=_beginning, metavar="ID", help="the instance's id, or the beginning of it if that is unique"
        )
    weighting.add_argument("weight", metavar="N", type=_weight, help="relative to the other instances; usually 100")
    _add_config(command("config", "look at and change how clients call a service"))
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, summary in (
        ("get", "print the service config as it stands in the registry"),
        ("set", "check a service config and put it in force; clients follow at once"),
        ("rm", "remove the service config; clients go back to their own"),
    ):
        subparser = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        subparser.set_defaults(command=f"config {name}")
        subparser.add_argument("service", type=_service, metavar="SERVICE")
        if name == "set":
            subparser.add_argument("file", metavar="FILE", help="of JSON; '-' is stdin; or the JSON itself: '{...}'")
            subparser.add_argument(
                "--allow-policy",
                action="append",
                default=[],
                metavar="NAME",
                help="a policy of your own that all clients have; may be repeated",
            )


def _service(text: str) -> str:
    try:
        return check_name(text, "service")
    except InvalidInstance as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _beginning(text: str) -> str:
    if not text:  # it begins every id, so it would be whichever instance is the only one
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def _config_text(file: str) -> str:
    if file.lstrip().startswith("{"):
        return file
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return data.decode()
    except OSError as error:
        raise Unreadable(f"{file}: {error.strerror}; FILE is a file, '-', or a JSON object '{{...}}'") from None
    except UnicodeDecodeError as error:
        raise Unreadable(f"{file}: is not UTF-8: {error.reason} at byte {error.start}") from None


def _weight(text: str) -> int:
    try:
        return check_weight(int(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MAX_WEIGHT:,}") from None


async def _run(registry: Registry, options: argparse.Namespace) -> None:
    async with registry:
        match options.command:
            case "ls":
                await _list(registry, options.service, options.output)
            case "watch":
                await _watch(registry, options.service, options.output)
            case "weight":
                await _edit(registry, options.service, options.id, weight=options.weight)
            case "drain":
                await _edit(registry, options.service, options.id, state=State.DRAINING)
            case "undrain":
                await _edit(registry, options.service, options.id, state=State.SERVING)
            case "config get":
                await _get_config(registry, options.service)
            case "config set":
                policies = {*POLICIES, *options.allow_policy}
                await registry.set_config(options.service, options.text, policies=policies)
                print(f"{options.service}: service config set")
                for hint in hints(options.text, policies):
                    print(f"meshctl: warning: {hint}", file=sys.stderr)
            case "config rm":
                await registry.remove_config(options.service)
                print(f"{options.service}: service config removed")


async def _list(registry: Registry, service: str | None, output: str) -> None:
    rows = [_row(listing.instance) | {"lease_ttl": listing.lease_ttl} for listing in await registry.list(service)]
    if output == "json":
        print(json.dumps(rows, indent=2))
    else:
        print(_table(rows))


async def _watch(registry: Registry, service: str | None, output: str) -> None:
    known: tuple[Instance, ...] = ()
    away = ""
    async with aclosing(registry.watch_all() if service is None else registry.watch(service)) as resolutions:
        async for resolution in resolutions:
            match resolution:
                case Unresolved(reason=reason):
                    away = _say(away, reason)
                case Snapshot(stale=True):
                    away = _say(away, "registry unreachable; this is the last that was known")
                case Snapshot(instances=instances):
                    away = _say(away, "")
                    for event, instance in differences(known, instances):
                        print(_event(event, instance, output), flush=True)
                    known = instances


async def _edit(
    registry: Registry, service: str, beginning: str, *, weight: int | None = None, state: State | None = None
) -> None:
    ids = [listing.instance.id for listing in await registry.list(service)]
    found = (
        [beginning] if beginning in ids else [instance_id for instance_id in ids if instance_id.startswith(beginning)]
    )
    if not found:
        raise UnknownInstance(f"no instance {beginning!r} of {service!r} is registered")
    if len(found) > 1:
        raise UnknownInstance(f"{beginning!r} begins several ids of {service!r}: {', '.join(found)}")
    instance = await registry.edit(service, found[0], weight=weight, state=state)
    print(f"{instance.service}/{instance.id}: weight {instance.weight}, {instance.state}")


async def _get_config(registry: Registry, service: str) -> None:
    text = await registry.get_config(service)
    if text is None:
        raise UnknownConfig(f"{service!r} has no service config")
    print(text, end="" if text.endswith("\n") else "\n")


def differences(old: Sequence[Instance], new: Sequence[Instance]) -> Iterator[tuple[str, Instance]]:
    """What happened between two snapshots: `removed`, `added` and `changed` instances, each as it was last."""
    before = {(instance.service, instance.id): instance for instance in old}
    after = {(instance.service, instance.id): instance for instance in new}
    for key in sorted(before.keys() - after.keys()):
        yield "removed", before[key]
    for key, instance in after.items():
        if key not in before:
            yield "added", instance
        elif before[key] != instance:
            yield "changed", instance


def _row(instance: Instance) -> dict[str, str | int]:
    return {
        "service": instance.service,
        "id": instance.id,
        "address": instance.address,
        "weight": instance.weight,
        "state": instance.state.value,
        "zone": instance.zone,
        "version": instance.version,
    }


def _table(rows: Sequence[Mapping[str, str | int]]) -> str:
    """Aligned columns under a heading; numbers to the right, as numbers are read."""
    lines = [[name.upper().replace("_", " ") for name in _COLUMNS]]
    lines += [[str(row[name]) or "-" for name in _COLUMNS] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    numbers = {_COLUMNS.index("weight"), _COLUMNS.index("lease_ttl")}
    return "\n".join(
        "  ".join(
            text.rjust(width) if column in numbers else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _event(event: str, instance: Instance, output: str) -> str:
    row = _row(instance)
    if output == "json":
        return json.dumps({"event": event} | row)
    return f"{event:8}" + "  ".join(f"{name}={value}" for name, value in row.items() if value != "")


def _say(said: str, message: str) -> str:
    """Tell a person on stderr how the registry is, when that changes."""
    if message != said:
        print(f"meshctl: {message or 'registry reachable again'}", file=sys.stderr, flush=True)
    return message


def _log_to_stderr() -> None:
    """What is skipped in the registry concerns an operator; that it is unreachable is said once, and by the command."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.name != "grpc_registry.etcd.reachability")
    logging.basicConfig(level=logging.WARNING, format="meshctl: %(message)s", handlers=[handler])


def _fail(status: int, error: object) -> int:
    print(f"meshctl: {' '.join(str(error).split())}", file=sys.stderr)
    return status
