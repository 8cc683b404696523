"""`shop cache`: what the instances of the cache service hold, and how well it serves."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import structlog

from grpc_registry import Instance, RegistryError
from shop.cache.v1.cache_pb2 import EvictionPolicy, GetStatsRequest, NamespaceStats
from shop_services.cli.data import add_data_flag, settings_of
from shop_services.cli.keys import refuse_without_key
from shop_services.cli.tables import print_table
from shop_services.runtime.settings import Settings

_DESCRIPTION = """
What each namespace holds on each instance of the cache service, and did there since the instance started. REGISTRY_URL
says where the instances are registered; the key that is asked with is the shop's. Ends with 1 if one did not answer.
"""
_SECONDS = 3.0
"""How long an instance may take to answer."""

_COUNTED = ("entries", "bytes", "hits", "misses", "sets", "deletes", "evictions", "expirations")
_HEAD = (
    *("NAMESPACE", "INSTANCE", "POLICY", "ENTRIES", "BYTES"),
    *("HITS", "MISSES", "HIT RATIO", "SETS", "DELETES", "EVICTIONS", "EXPIRATIONS"),
)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What an instance told; or why it did not, and whether that is for what it was asked."""

    instance: Instance
    stats: Sequence[NamespaceStats] = ()
    failure: str = ""
    refused: bool = False


def add_commands(subparsers: Any) -> None:
    """Add `cache` with its command to those of `shop`."""
    cache = subparsers.add_parser("cache", help="look into the cache", description=__doc__)
    actions = cache.add_subparsers(dest="action", required=True, metavar="ACTION")
    stats = actions.add_parser("stats", help="count by namespace and instance", description=_DESCRIPTION)
    stats.add_argument("namespace", nargs="?", default="", metavar="NAMESPACE", help="only this one")
    stats.add_argument("-o", "--output", choices=("table", "json"), default="table", help="for people, or for programs")
    add_data_flag(stats)
    stats.set_defaults(run=_stats)


def _stats(options: argparse.Namespace) -> int:
    settings = settings_of(options)
    # What fails is said below, in one line.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        answers = asyncio.run(_ask_all(settings, options.namespace))
    except RegistryError as error:
        return _fail([str(error)])
    if not answers:
        return _fail(["no instance of the cache service is registered"])
    refusals = {answer.failure for answer in answers if answer.refused}
    if refusals:
        return _fail(sorted(refusals))
    rows = [_row(stats, answer.instance) for answer in answers for stats in answer.stats]
    rows.sort(key=lambda row: (row["namespace"], row["instance"]))
    silent = [answer for answer in answers if answer.failure]
    _print(rows, silent, options.output)
    return _fail(f"{one.instance.id} at {one.instance.address}: {one.failure}" for one in silent) if silent else 0


async def _ask_all(settings: Settings, namespace: str) -> list[_Answer]:
    # With a balancer, and what servers need: slow for `shop --help`.
    from shop_services.caching.direct import direct_channel
    from shop_services.caching.ring import SERVICE
    from shop_services.runtime.operator import operator_credentials
    from shop_services.runtime.outgoing import OutgoingChannel
    from shop_services.runtime.serve import connect
    from shop_services.runtime.tls import OPERATOR, tls_files

    refuse_without_key(settings)
    credentials, tls = operator_credentials(settings), tls_files(settings, OPERATOR, SERVICE)
    async with connect(settings, OPERATOR) as registry:
        listed = [listing.instance for listing in await registry.list(SERVICE)]
    channels = {one: OutgoingChannel(direct_channel(one, tls), credentials=credentials) for one in listed}
    return list(await asyncio.gather(*(_ask(one, channel, namespace) for one, channel in channels.items())))


async def _ask(instance: Instance, channel: grpc.aio.Channel, namespace: str) -> _Answer:
    from shop.cache.v1.cache_pb2_grpc import CacheServiceStub

    async with channel:
        try:
            told = await CacheServiceStub(channel).GetStats(GetStatsRequest(namespace=namespace), timeout=_SECONDS)
        except grpc.aio.AioRpcError as error:
            refused = error.code() is grpc.StatusCode.INVALID_ARGUMENT
            return _Answer(instance, failure=error.details() or error.code().name, refused=refused)
    return _Answer(instance, tuple(told.namespaces))


def _row(stats: NamespaceStats, instance: Instance) -> Row:
    policy = EvictionPolicy.Name(stats.policy).removeprefix("EVICTION_POLICY_").lower() if stats.policy else None
    counted = {name: getattr(stats, name) for name in _COUNTED}
    if policy is None:  # they are in a Redis, which all instances share
        counted |= dict.fromkeys(("entries", "bytes", "evictions", "expirations"))
    limits = {"max_entries": stats.max_entries or None, "max_bytes": stats.max_bytes or None}
    place = {"namespace": stats.namespace, "instance": instance.id, "address": instance.address, "policy": policy}
    return {**place, **counted, "hit_ratio": _hit_ratio(counted), **limits}


def _totals(rows: Iterable[Row]) -> list[Row]:
    by_namespace = defaultdict[str, list[Row]](list)
    for row in rows:
        by_namespace[row["namespace"]].append(row)
    return [_total(namespace, of) for namespace, of in by_namespace.items()]


def _total(namespace: str, rows: Sequence[Row]) -> Row:
    counted = {
        name: None if all(row[name] is None for row in rows) else sum(row[name] or 0 for row in rows)
        for name in _COUNTED
    }
    return {"namespace": namespace, "instances": len(rows), **counted, "hit_ratio": _hit_ratio(counted)}


def _hit_ratio(counted: Mapping[str, int | None]) -> float | None:
    hits, misses = counted["hits"] or 0, counted["misses"] or 0
    return round(hits / (hits + misses), 4) if hits + misses else None


def _print(rows: Sequence[Row], silent: Sequence[_Answer], output: str) -> None:
    totals = _totals(rows)
    if output == "json":
        gone = [{"instance": one.instance.id, "address": one.instance.address, "error": one.failure} for one in silent]
        print(json.dumps({"stats": rows, "totals": totals, "unreachable": gone}, indent=2))
        return
    lines: list[tuple[str, ...]] = []
    for total in totals:
        lines += [_cells(row, row["instance"]) for row in rows if row["namespace"] == total["namespace"]]
        if total["instances"] > 1:
            lines.append(_cells(total, f"all {total['instances']}"))
    print_table(_HEAD, lines)


def _cells(row: Row, instance: str) -> tuple[str, ...]:
    ratio = "-" if row["hit_ratio"] is None else f"{row['hit_ratio']:.1%}"
    shown = {name: "-" if row[name] is None else f"{row[name]:,}" for name in _COUNTED}
    before, after = _COUNTED[:4], _COUNTED[4:]
    head = (row["namespace"], instance, row.get("policy") or "-")
    return (*head, *(shown[name] for name in before), ratio, *(shown[name] for name in after))


def _fail(lines: Iterable[str]) -> int:
    for line in lines:
        print(f"shop cache stats: {line}", file=sys.stderr)
    return 1
