"""An instance's key, kept as it should be for as long as the instance lives."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from contextlib import aclosing
from random import Random

from grpc_registry.backoff import Backoff, keep_doing
from grpc_registry.errors import RegistryClosed, RegistryError, RegistryUnavailable
from grpc_registry.etcd import kv
from grpc_registry.etcd import lease as leases
from grpc_registry.etcd.companions import Companions
from grpc_registry.etcd.connection import Connection
from grpc_registry.etcd.failures import LeaseGone
from grpc_registry.etcd.kv import KeyRange, KeyValue
from grpc_registry.etcd.lease import Lease
from grpc_registry.etcd.naming import encode
from grpc_registry.etcd.ownership import Desired, Keep, Write, settle
from grpc_registry.etcd.reachability import REMIND_SECONDS
from grpc_registry.etcd.session import NO_LEASE, Session
from grpc_registry.etcd.watch import Deleted, watch
from grpc_registry.instance import Instance, State
from grpc_registry.waiting import Changes, first_of, stop

logger = logging.getLogger(__name__)


class EtcdRegistration:
    """Keeps `Registration`'s promises over etcd. One task is the only writer of the key, and of its companions.

    `timeout` bounds `update`, `close_timeout` bounds `close`, both in seconds. `on_closed` is called once, at the end.
    """

    def __init__(
        self,
        connection: Connection,
        session: Session,
        key: bytes,
        instance: Instance,
        companions: Companions,
        rng: Random,
        *,
        timeout: float,
        close_timeout: float,
        on_closed: Callable[[], object],
    ) -> None:
        self._connection = connection
        self._session = session
        self._key = key
        self._desired = Desired(instance)
        self._companions = companions
        self._told: Instance | None = None  # what was last written, companions included
        self._timeout = timeout
        self._close_timeout = close_timeout
        self._on_closed = on_closed
        self._written_under = NO_LEASE
        self._rival_said = -REMIND_SECONDS
        self._leases: set[int] = set()  # that the key was, or may have been, written under
        self._writing = asyncio.Lock()
        self._closing = asyncio.Lock()
        self._closed = False
        self._changes = Changes()
        session.join()
        self._task = asyncio.create_task(
            keep_doing(self._own, Backoff(rng)), name=f"grpc_registry registration {key.decode()}"
        )

    @property
    def instance(self) -> Instance:
        return self._desired.instance

    @property
    def registered(self) -> bool:
        return not self._closed and self._written_under is not NO_LEASE and self._written_under is self._session.lease

    async def wait_registered(self) -> None:
        await self._changes.until(lambda: self.registered or self._closed)
        self._check_open()

    async def update(self, *, weight: int | None = None, state: State | None = None) -> None:
        self._check_open()
        self._desired = self._desired.changed(weight=weight, state=state)
        self._changes.tell()
        try:
            async with asyncio.timeout(self._timeout):
                await self._changes.until(lambda: not self._desired.unwritten or self._closed)
        except TimeoutError:
            raise RegistryUnavailable(
                f"the registry did not take the change within {self._timeout:g} s; it will be written when it does"
            ) from None
        self._check_open()

    async def close(self) -> None:
        async with self._closing:  # whoever comes second returns when it is done
            if self._closed:
                return
            self._closed = True
            self._changes.tell()
            try:
                await self._stop_and_remove()
            finally:
                await stop(self._task)
                self._on_closed()

    async def _own(self) -> None:
        """Make the key as it should be and keep it so, until something from outside happens to it or to the lease."""
        lease = await self._session.granted()
        while True:
            revision = await self._settle(lease)
            await first_of(
                self._spoiled(lease, revision + 1),
                self._session.until_lost(lease),
                self._changes.until(self._has_unwritten),
            )
            if not self._has_unwritten():
                return

    async def _settle(self, lease: Lease) -> int:
        """Returns the store's revision at which the key was as it should be."""
        while True:
            desired = self._desired
            revision, seen = await kv.get(self._connection, self._key)
            decision = self._decide(desired, seen, lease)
            if isinstance(decision, Write):
                written = await self._write(decision, lease)
                if written is None:
                    continue  # somebody wrote between our read and our write: look again
                revision = written
            self._told = decision.instance
            self._leases = {lease.id}
            self._written_under = lease
            if self._desired is desired:
                self._desired = Desired(decision.instance)
            self._changes.tell()
            return revision

    def _decide(self, desired: Desired, seen: KeyValue | None, lease: Lease) -> Keep | Write:
        decision = settle(desired, seen, lease=lease.id, leases=self._leases)
        if isinstance(decision, Keep) and seen is not None and self._companions.outdated(decision.instance, self._told):
            return Write(decision.instance, seen.mod_revision)  # somebody edited the key, who knows no companions
        return decision

    async def _write(self, decision: Write, lease: Lease) -> int | None:
        if decision.rival:
            self._say_rival(decision.rival)
        self._leases.add(lease.id)
        instance = decision.instance
        beside = self._companions.of(instance, lease.id)
        # Those of an earlier lease, or of an instance that did not drain yet, go as the others come.
        outdated = self._companions.keys(instance.service, instance.id, self._leases) - beside.keys()
        async with self._writing:
            self._check_open()
            try:
                return await kv.put_if_unchanged(
                    self._connection,
                    self._key,
                    encode(instance),
                    lease=lease.id,
                    seen=decision.seen,
                    puts=beside,
                    deletes=sorted(outdated),
                )
            except LeaseGone:
                self._session.report_lost(lease)
                raise

    def _say_rival(self, rival: str) -> None:
        """Two live processes with one id take it from each other about once a second: that is said more rarely."""
        now = asyncio.get_running_loop().time()
        if now - self._rival_said >= REMIND_SECONDS:
            self._rival_said = now
            logger.warning("%s was registered by %s: taking it over", self._key.decode(), rival)

    async def _spoiled(self, lease: Lease, revision: int) -> None:
        """Follow the key from `revision` on, adopting edits, until it must be written again; raises if it cannot be."""
        async with aclosing(watch(self._connection, KeyRange(self._key), revision)) as batches:
            async for events in batches:
                for event in events:
                    if isinstance(event, Deleted):
                        self._written_under = NO_LEASE
                        return
                    decision = self._decide(self._desired, event, lease)
                    self._desired = Desired(decision.instance, self._desired.unwritten)
                    if isinstance(decision, Write):
                        return

    async def _stop_and_remove(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._close_timeout
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline), self._writing:  # a write on its way must not follow the deletion
                await stop(self._task)
        lease = await self._session.leave()
        try:
            await self._connection.patiently(lambda: self._remove(lease), deadline - loop.time())
        except RegistryError as error:
            logger.warning("%s stays registered until its lease expires: %s", self._key.decode(), error)

    async def _remove(self, last_lease: Lease) -> None:
        for lease_id in sorted(self._leases):
            # Also if it is to drain, and then has none: that may not have been written any more.
            beside = self._companions.keys(self.instance.service, self.instance.id, {lease_id})
            await kv.delete_if_leased(self._connection, self._key, *sorted(beside), lease=lease_id)
        if last_lease is not NO_LEASE:
            await leases.revoke(self._connection, last_lease.id)

    def _has_unwritten(self) -> bool:
        return bool(self._desired.unwritten)

    def __repr__(self) -> str:
        state = "closed" if self._closed else "registered" if self.registered else "waiting for the registry"
        return f"<{type(self).__name__} {self._key.decode()} {state}>"

    def _check_open(self) -> None:
        if self._closed:
            raise RegistryClosed(f"{self._key.decode()}: the registration is closed")
