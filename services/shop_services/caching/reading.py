"""Reads through two caches to a source: a copy in this process, else one that processes share, else the source.

The source is the only truth: a cache that is slow, down, wrong or late makes reads slower, never fails one, and cannot
make one older than `is_current` allows.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from random import Random
from typing import Generic, Self

from shop_services.caching.arguments import check_key
from shop_services.caching.backend import Backend
from shop_services.caching.bounded import Bounded
from shop_services.caching.breaker import Breaker
from shop_services.caching.copies import Codec, Copy, V
from shop_services.caching.fetching import Fetching, LoadMany
from shop_services.caching.lifetimes import Lifetimes
from shop_services.caching.local_copies import LocalCopies
from shop_services.caching.shared_copies import SharedCopies
from shop_services.caching.tiers import ReadCounts
from shop_services.caching.turns import Turns

Load = Callable[[], Awaitable[Copy[V]]]
"""Asks the source for one key."""


class ReadThrough(Generic[V]):
    """Reads what `name` names. Used inside of `async with`, which owns its tasks; the caches are others' to close.

    **What a read returns.** With `is_current(key, as_of)` the owner tells whether nothing that it knows of has happened
    to the key since `as_of`, and, with `as_of=ANY`, whether it knows enough for any copy to be used. A read returns
    either a copy that was current at some moment after the read began, or what the source said to a question that was
    put to it after the read began. This holds for both caches and for what readers share; it does not depend on
    expiry, nor on the shared cache doing what it is told.

    **How often the source is asked.** In one process each key has one question to the source at a time, and all who
    wait share its answer or its error. If the answer is out of date for some, since the question was put before they
    came, they share one more; nobody joins a question that was put before a `put` or `forget` of the key. Across
    processes, who asks for one key first takes a lock in the shared cache. Others look for the result, and ask for
    themselves after `patience`. A read of many keys takes no locks.

    **What caches cost.** An attempt at the shared cache ends within `timeout`. Before it asks the source, a flight
    spends no more than `patience` (three times `timeout`) on the shared cache, and nothing while that is left alone:
    after three failures in a row, but for one attempt a second. Nobody waits for a result to be stored. The source has
    `load_timeout`. A reader waits for two flights at most.

    **Lives.** See `Lifetimes`. A copy of `value=None` is one like others: that there is none is known too. Copies in
    this process are refreshed early while they are read, in tasks for which nobody waits.

    All times are in seconds; `clock` never goes back, `wall` is that of `time.time`.

    Raises:
        ValueError: a number makes no sense.
    """

    def __init__(
        self,
        name: str,
        *,
        local: Bounded[Copy[V]] | None,
        shared: Backend | None,
        codec: Codec[V],
        is_current: Callable[[str, int], bool],
        ttl: float,
        negative_ttl: float,
        rng: Random,
        jitter: float = 0.1,
        refresh_ahead: float = 0.1,
        timeout: float = 0.1,
        patience: float | None = None,
        load_timeout: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        patience = 3 * timeout if patience is None else patience
        if not (0 < timeout < patience and load_timeout > 0):
            raise ValueError(
                f"timeout {timeout}, patience {patience}: seconds, more than 0, the second longer; "
                f"load_timeout {load_timeout}: seconds, more than 0"
            )
        self.name = name
        self._is_current = is_current
        self._clock = clock
        self._counts = ReadCounts()
        self._lifetimes = lifetimes = Lifetimes(
            ttl=ttl,
            negative_ttl=negative_ttl,
            jitter=jitter,
            refresh_ahead=refresh_ahead,
            clock=clock,
            wall=wall,
            rng=rng,
        )
        self._local = LocalCopies(local, is_current=is_current, lifetimes=lifetimes, counts=self._counts.local)
        self._breaker = Breaker(name, clock, rng)
        self._shared: SharedCopies[V] | None = None
        if shared is not None:
            self._shared = SharedCopies(
                shared,
                codec,
                is_current=is_current,
                lifetimes=lifetimes,
                breaker=self._breaker,
                timeout=timeout,
                counts=self._counts.shared,
            )
        turns = Turns(
            self._shared,
            is_current=is_current,
            lifetimes=lifetimes,
            patience=patience,
            clock=clock,
            rng=rng,
            counts=self._counts.shared,
        )
        self._fetching = Fetching(
            name,
            local=self._local,
            shared=self._shared,
            turns=turns,
            lifetimes=lifetimes,
            is_current=is_current,
            load_timeout=load_timeout,
            counts=self._counts,
        )

    def __repr__(self) -> str:
        paused = ", shared cache paused" if self._breaker.open else ""
        return f"<ReadThrough {self.name}: {self._fetching!r}{paused}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._fetching.stop()

    def counts(self) -> ReadCounts:
        """What was counted so far."""
        return self._counts.snapshot()

    async def get(self, key: str, load: Load[V]) -> Copy[V]:
        """The copy of `key`, from `load` if there is none.

        All loads of one key must be as good as each other: another reader's may answer this one.

        Raises:
            InvalidKey: it is empty, too long, or no text.
            Unavailable: the source took too long, or reading has ended.
            Exception: what `load` raised.
        """
        copy = self._local.get(key)
        if copy is not None:
            if self._clock() >= copy.refresh_at:
                self._fetching.refresh({key: copy}, _of_one(key, load))
            return copy
        return (await self._read([key], _of_one(key, load)))[key]

    async def get_many(self, keys: Collection[str], load: LoadMany[V]) -> Mapping[str, Copy[V]]:
        """The copies of all these keys, with one look into the shared cache and one call of `load` for what is missing.

        Raises:
            InvalidKey: one is empty, too long, or no text.
            Unavailable: the source took too long, or reading has ended.
            LookupError: `load` did not answer for a key.
            Exception: what `load` raised.
        """
        found = {key: copy for key in keys if (copy := self._local.get(key)) is not None}
        now = self._clock()
        if due := {key: copy for key, copy in found.items() if now >= copy.refresh_at}:
            self._fetching.refresh(due, load)
        if len(found) == len(keys):
            return found
        missing = [key for key in dict.fromkeys(keys) if key not in found]
        return found | await self._read(missing, load)

    async def put(self, key: str, copy: Copy[V]) -> None:
        """Let both caches have this copy, unless it is out of date already. The local one has it at once.

        Raises `InvalidKey`, but nothing for the shared cache's sake.
        """
        check_key(key)
        self._fetching.cut(key)
        if self._is_current(key, copy.as_of):
            copy = self._lifetimes.loaded(copy)
            self._local.keep(key, copy)
            if self._shared is not None:
                await self._shared.store({key: copy})

    async def forget(self, key: str) -> None:
        """Let both caches forget `key`: the local one, and loads under way, at once; the shared one if it answers."""
        self._fetching.cut(key)
        self._local.forget(key)
        if self._shared is not None:
            await self._shared.delete(key)

    async def _read(self, keys: Sequence[str], load: LoadMany[V]) -> dict[str, Copy[V]]:
        for key in keys:
            check_key(key)
        joined, begun = self._fetching.board(keys, load)
        found = {key: await flight.wait() for key, flight in begun.items()}
        outdated = []
        for key, flight in joined.items():
            copy = await flight.wait()
            if self._is_current(key, copy.as_of):
                found[key] = copy
            else:
                outdated.append(key)
        # Those flights began before we came. Any that is there now began after one of them landed, so after we came.
        joined, begun = self._fetching.board(outdated, load)
        for key, flight in (joined | begun).items():
            found[key] = await flight.wait()
        return found


def _of_one(key: str, load: Load[V]) -> LoadMany[V]:
    async def load_one(_: Sequence[str]) -> Mapping[str, Copy[V]]:
        return {key: await load()}

    return load_one
