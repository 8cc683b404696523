"""What an operator asks for: a list with leases, and an edit in place."""

from __future__ import annotations

import asyncio

from grpc_registry.contract import Listing
from grpc_registry.errors import InvalidInstance, RegistryUnavailable, UnknownInstance
from grpc_registry.etcd import kv, lease
from grpc_registry.etcd.companions import Companions
from grpc_registry.etcd.connection import Connection
from grpc_registry.etcd.failures import LeaseGone
from grpc_registry.etcd.keys import Keyspace
from grpc_registry.etcd.kv import KeyRange
from grpc_registry.etcd.naming import decode, edit
from grpc_registry.etcd.reader import Reader
from grpc_registry.instance import Instance, State
from grpc_registry.waiting import stop

_LEASES_AT_ONCE = 32  # etcd tells the TTL of one lease at a time
_EDIT_TRIES = 10


async def list_instances(connection: Connection, reader: Reader, keys: KeyRange) -> list[Listing]:
    """The instances in `keys`, ordered by service and id, each with the TTL that its lease was granted for."""
    _, found = await kv.list_range(connection, keys)
    registered = [(instance, entry.lease) for entry in found if (instance := reader.instance(entry)) is not None]
    turns = asyncio.Semaphore(_LEASES_AT_ONCE)

    async def ttl(lease_id: int) -> int:
        async with turns:
            return await lease.granted_ttl(connection, lease_id)

    lease_ids = sorted({lease_id for _, lease_id in registered if lease_id})
    questions = [asyncio.create_task(ttl(lease_id)) for lease_id in lease_ids]
    try:
        ttls = dict(zip(lease_ids, await asyncio.gather(*questions), strict=True))
    finally:
        await stop(*questions)
    listings = [
        Listing(instance, ttls.get(lease_id, 0))
        for instance, lease_id in registered
        if not lease_id or ttls[lease_id]  # else its lease, and so the instance, went away since the list
    ]
    return sorted(listings, key=lambda listing: (listing.instance.service, listing.instance.id))


async def remove_instance(
    connection: Connection, keyspace: Keyspace, companions: Companions, service: str, instance_id: str
) -> None:
    """Delete an instance's keys as they are now. One that was registered anew meanwhile, under another lease, stays."""
    key = keyspace.instance(service, instance_id)
    _, seen = await kv.get(connection, key)
    if seen is not None:
        beside = companions.keys(service, instance_id, {seen.lease})
        await kv.delete_if_leased(connection, key, *sorted(beside), lease=seen.lease)


async def edit_instance(
    connection: Connection,
    keyspace: Keyspace,
    service: str,
    instance_id: str,
    *,
    weight: int | None = None,
    state: State | None = None,
) -> Instance:
    """Change a registered instance in place; its lease and everything unknown in its value stay.

    Read, change and write-if-unchanged, again if someone else was faster; so an edit whose answer got lost can be tried
    again without harm. Raises as `Directory.edit` does.
    """
    key = keyspace.instance(service, instance_id)
    for _ in range(_EDIT_TRIES):
        _, seen = await kv.get(connection, key)
        if seen is None:
            raise UnknownInstance(f"no instance {instance_id!r} of {service!r} is registered")
        try:
            value = edit(seen.value, weight=weight, state=state)
            instance = decode(service, instance_id, value).instance
        except InvalidInstance as error:
            raise InvalidInstance(f"{service}/{instance_id}: {error}") from None
        try:
            if await kv.put_if_unchanged(connection, key, value, lease=seen.lease, seen=seen.mod_revision) is not None:
                return instance
        except LeaseGone:
            continue  # so its keys are gone, or about to: look again
    raise RegistryUnavailable(f"{service}/{instance_id} was changed by someone else at each of {_EDIT_TRIES} tries")
