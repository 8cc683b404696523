"""Keys and values: read one, list many, and write only if nobody else did meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from grpc_registry.etcd import v3
from grpc_registry.etcd.connection import Connection
from grpc_registry.etcd.failures import Compacted

PAGE = 1000  # keys an answer: some 300 kB of instances, where etcd's limit for one answer is in the megabytes

_NONE: Mapping[bytes, bytes] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class KeyValue:
    """A key as it is in the store; `lease` is 0 for a key that outlives everybody."""

    key: bytes
    value: bytes
    mod_revision: int
    lease: int


@dataclass(frozen=True, slots=True)
class KeyRange:
    """The keys from `first` up to but without `end`; only `first` if `end` is empty."""

    first: bytes
    end: bytes = b""

    @classmethod
    def under(cls, prefix: bytes) -> KeyRange:
        """All keys that begin with `prefix`, which must not end with the byte 0xFF."""
        return cls(prefix, prefix[:-1] + bytes([prefix[-1] + 1]))


def key_value(message: Any) -> KeyValue:
    """The value of a `v3.KeyValue` message."""
    return KeyValue(message.key, message.value, message.mod_revision, message.lease)


async def get(connection: Connection, key: bytes) -> tuple[int, KeyValue | None]:
    """The store's revision, and what is at `key` then."""
    answer = await connection.call(v3.RANGE, v3.RangeRequest(key=key))
    return answer.header.revision, key_value(answer.kvs[0]) if answer.kvs else None


async def list_range(connection: Connection, keys: KeyRange, *, page: int = PAGE) -> tuple[int, list[KeyValue]]:
    """The store's revision, and everything in `keys` at exactly that revision, read in pages of `page` keys."""
    while True:
        try:
            return await _list_pages(connection, keys, page)
        except Compacted:
            continue  # the revision of the first page was compacted before the last was read: begin again


async def put_if_unchanged(
    connection: Connection,
    key: bytes,
    value: bytes,
    *,
    lease: int,
    seen: int,
    puts: Mapping[bytes, bytes] = _NONE,
    deletes: Iterable[bytes] = (),
) -> int | None:
    """Write `key` under `lease` if its mod_revision is still `seen` (0: it does not exist).

    Together with it, or not at all, `puts` are written under the lease as well, and `deletes` are deleted.

    Returns the revision of the write, or None if the key was changed by someone else. A write that was carried out, and
    whose answer got lost, reads as changed by someone else when it is tried again: read the key and decide anew.

    Raises `LeaseGone` if there is no such lease.
    """
    answer = await connection.call(
        v3.TXN,
        v3.TxnRequest(
            compare=[v3.Compare(key=key, target=v3.TARGET_MOD_REVISION, mod_revision=seen)],
            success=[
                *(_put(key, value, lease) for key, value in {key: value, **puts}.items()),
                *(_delete(key) for key in deletes),
            ],
        ),
    )
    return answer.header.revision if answer.succeeded else None


async def put(connection: Connection, key: bytes, value: bytes) -> None:
    """Write `key` for good, whatever was there."""
    await connection.call(v3.TXN, v3.TxnRequest(success=[_put(key, value, 0)]))


async def delete(connection: Connection, key: bytes) -> None:
    """Delete `key`, if it is there."""
    await connection.call(v3.TXN, v3.TxnRequest(success=[_delete(key)]))


async def delete_if_leased(connection: Connection, *keys: bytes, lease: int) -> None:
    """Delete those of `keys` that are attached to `lease`, at once if all are; someone else's keys stay."""
    answer = await connection.call(
        v3.TXN,
        v3.TxnRequest(
            compare=[v3.Compare(key=key, target=v3.TARGET_LEASE, lease=lease) for key in keys],
            success=[_delete(key) for key in keys],
        ),
    )
    if not answer.succeeded and len(keys) > 1:
        for key in keys:
            await delete_if_leased(connection, key, lease=lease)


def _put(key: bytes, value: bytes, lease: int) -> Any:
    return v3.RequestOp(request_put=v3.PutRequest(key=key, value=value, lease=lease))


def _delete(key: bytes) -> Any:
    return v3.RequestOp(request_delete_range=v3.DeleteRangeRequest(key=key))


async def _list_pages(connection: Connection, keys: KeyRange, page: int) -> tuple[int, list[KeyValue]]:
    found: list[KeyValue] = []
    revision, first = 0, keys.first
    while True:
        # Later pages are pinned to the revision of the first (0 means: the present one). An end that is empty must not
        # be sent at all: etcd takes one that is there, and empty, for "all keys from the first on".
        request = v3.RangeRequest(key=first, range_end=keys.end or None, limit=page, revision=revision)
        answer = await connection.call(v3.RANGE, request)
        revision = revision or answer.header.revision
        found += map(key_value, answer.kvs)
        if not answer.more:
            return revision, found
        first = found[-1].key + b"\0"  # the least key after the last one
