"""What is known of one service (its instances, or its config), handed to any number of readers at their own pace.

A reader that is slower than the changes misses the ones between, never the latest. But what it missed must not be lost
where it matters: if any list after a break lies between two of its snapshots, the second one says `relisted`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Generic, TypeVar

from grpc_registry.config import ConfigSnapshot
from grpc_registry.instance import Snapshot, Unresolved
from grpc_registry.waiting import Changes

Known = TypeVar("Known", Snapshot, ConfigSnapshot)


class Feed(Generic[Known]):
    """The latest that is known of a service. One writer, many readers.

    Until the first word from the registry readers wait; then it is `Unresolved`, a snapshot, or a stale one.
    """

    def __init__(self, service: str) -> None:
        self.latest: Known | Unresolved = Unresolved(service, "the registry was not heard of yet")
        self.closed = False
        self._published = 0
        self._relists = 0
        self._changes = Changes()

    def listed(self, snapshot: Known) -> None:
        """Publish a snapshot that was read anew; readers hear of it if it differs from what they know."""
        if not isinstance(self.latest, Unresolved) and not _same(self.latest, snapshot):
            self._relists += 1
        self.folded(snapshot)

    def folded(self, snapshot: Known) -> None:
        """Publish a snapshot that was made from the one before; readers hear of it if it differs."""
        if not isinstance(self.latest, Unresolved) and _same(self.latest, snapshot):
            self.latest = snapshot  # a later revision of the same: worth keeping, not worth waking anyone
        else:
            self._publish(snapshot)

    def unreachable(self, reason: str) -> None:
        """Publish that the registry does not answer: the snapshot becomes stale; without one it is `Unresolved`."""
        if isinstance(self.latest, Unresolved):
            if self.latest.reason != reason:
                self._publish(replace(self.latest, reason=reason))
        elif not self.latest.stale:
            self._publish(replace(self.latest, stale=True))

    def close(self) -> None:
        """End every reader's iteration."""
        self.closed = True
        self._changes.tell()

    async def read(self) -> AsyncGenerator[Known | Unresolved, None]:
        """Yield the latest, then again after each change, until the feed is closed."""
        read, relists = 0, self._relists
        while True:
            while self._published == read and not self.closed:
                await self._changes.told()
            if self.closed:
                return
            latest = self.latest
            if not isinstance(latest, Unresolved):
                latest = replace(latest, relisted=self._relists != relists)
            read, relists = self._published, self._relists
            yield latest

    def _publish(self, latest: Known | Unresolved) -> None:
        self.latest = latest
        self._published += 1
        self._changes.tell()


def _same(known: Known, new: Known) -> bool:
    return replace(known, revision=new.revision) == new
