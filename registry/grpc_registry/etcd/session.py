"""The one lease under which this process registers everything: taken, kept alive, and taken again when it is lost."""

from __future__ import annotations

import asyncio
import logging
from random import Random

from grpc_registry.backoff import Backoff, keep_doing
from grpc_registry.errors import RegistryUnavailable
from grpc_registry.etcd import lease as leases
from grpc_registry.etcd.connection import Connection
from grpc_registry.etcd.failures import LeaseGone
from grpc_registry.etcd.lease import Lease
from grpc_registry.waiting import Changes, first_of, stop

logger = logging.getLogger(__name__)

NO_LEASE = Lease(0, 0)

_KEEP_ALIVES_PER_TTL = 3  # two may get lost


class Session:
    """Holds a lease for as long as anyone uses it. It is `NO_LEASE` before it is granted, and after it was lost.

    A lease is lost when etcd says so, or when no sign of life was acknowledged within its time, counted from the moment
    when the last acknowledged one was *sent*: then etcd may have dropped it, whatever a stream still says.
    """

    def __init__(self, connection: Connection, ttl: int, rng: Random) -> None:
        self.lease = NO_LEASE
        self._connection = connection
        self._ttl = ttl
        self._rng = rng
        self._users = 0
        self._task: asyncio.Task[None] | None = None
        self._changes = Changes()

    def join(self) -> None:
        """Begin to hold a lease, if nobody did before."""
        self._users += 1
        if self._task is None:
            self._task = asyncio.create_task(keep_doing(self._hold_one, Backoff(self._rng)), name="grpc_registry lease")

    async def leave(self) -> Lease:
        """Undo one `join`. The last to leave gets the lease, kept alive no more, to revoke; others get `NO_LEASE`."""
        self._users -= 1
        if self._users or self._task is None:
            return NO_LEASE
        task, lease, self._task = self._task, self.lease, None
        await stop(task)
        return lease

    async def close(self) -> None:
        """Stop keeping the lease alive, whoever still uses it."""
        if self._task is not None:
            await stop(self._task)

    async def granted(self) -> Lease:
        """The lease, waiting for it for as long as there is none."""
        await self._changes.until(lambda: self.lease is not NO_LEASE)
        return self.lease

    async def until_lost(self, lease: Lease) -> None:
        """Return when `lease` is not held any more."""
        await self._changes.until(lambda: self.lease is not lease)

    def report_lost(self, lease: Lease) -> None:
        """Somebody was told by etcd that there is no such lease."""
        if self.lease is lease:
            logger.warning("lease %x is gone: registering again", lease.id)
            self._let_go(lease)

    async def _hold_one(self) -> None:
        sent = asyncio.get_running_loop().time()
        lease = await leases.grant(self._connection, self._ttl)
        ttl = lease.ttl
        try:
            if asyncio.get_running_loop().time() > sent + ttl / _KEEP_ALIVES_PER_TTL:
                # The answer was long under way, as one that was held back by an outage: what is registered under this
                # lease could be gone at once, so nothing is until it has its full time again.
                sent, ttl = await self._kept(lease, sent, ttl, due=sent)
            self.lease = lease
            self._changes.tell()
            await first_of(self._keep_alive(lease, sent, ttl), self.until_lost(lease))
        except LeaseGone as error:
            logger.warning("%s: registering again", error)
        finally:
            self._let_go(lease)

    async def _keep_alive(self, lease: Lease, sent: float, ttl: int) -> None:
        """Raises `LeaseGone` when the lease is lost."""
        while True:
            pause = ttl / _KEEP_ALIVES_PER_TTL * self._rng.uniform(0.8, 1.0)
            sent, ttl = await self._kept(lease, sent, ttl, due=sent + pause)

    async def _kept(self, lease: Lease, sent: float, ttl: int, *, due: float) -> tuple[float, int]:
        """Keep alive at `due`, on the loop's clock, what lives for `ttl` seconds from `sent`; the same two, renewed.

        Raises `LeaseGone` when nothing was acknowledged in that time.
        """
        try:
            async with asyncio.timeout_at(sent + ttl):
                await asyncio.sleep(due - asyncio.get_running_loop().time())
                return await self._one_sign(lease)
        except TimeoutError:
            raise LeaseGone(f"lease {lease.id:x} was not acknowledged within its {ttl} s") from None

    async def _one_sign(self, lease: Lease) -> tuple[float, int]:
        """Keep the lease alive once, with as many tries as it takes; when that was sent, and the seconds it bought."""
        pauses = Backoff(self._rng)
        while True:
            sent = asyncio.get_running_loop().time()
            try:
                # At least two rounds fit before the lease is lost, even if the member in use is frozen.
                return sent, await leases.keep_alive(self._connection, lease, attempt_timeout=max(0.5, lease.ttl / 6))
            except RegistryUnavailable:
                await asyncio.sleep(pauses.next())

    def _let_go(self, lease: Lease) -> None:
        if self.lease is lease:  # and not one that was granted since
            self.lease = NO_LEASE
            self._changes.tell()
