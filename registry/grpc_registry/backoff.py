"""How long to wait before the next try.

Many processes lose the registry at the same moment, so each waits a random part of a growing time: they come back
spread out, and the first of them at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random
from typing import NoReturn

from grpc_registry.errors import RegistryError

logger = logging.getLogger(__name__)


class Backoff:
    """Growing pauses: the n-th is a random value from half of `first * 2**n` to all of it, in seconds, at most `cap`.

    The cap of 1 s is short on purpose: a refused connection costs next to nothing, while the time to notice that the
    registry is back is this pause plus gRPC's own reconnect backoff (at most 2 s here), and must stay below 5 s.
    """

    def __init__(self, rng: Random, *, first: float = 0.1, cap: float = 1.0) -> None:
        self.cap = cap
        self._rng = rng
        self._first = first
        self._step = first

    def next(self) -> float:
        """The next pause in seconds."""
        pause = self._step * self._rng.uniform(0.5, 1.0)
        self._step = min(self._step * 2, self.cap)
        return pause

    def reset(self) -> None:
        """Begin again with the shortest pause."""
        self._step = self._first


async def keep_doing(step: Callable[[], Awaitable[None]], backoff: Backoff) -> NoReturn:
    """Await `step()` again and again, with a pause after each, until cancelled.

    What must go on for ever (a registration, a watch) must also outlive what nobody thought of: an unexpected exception
    is logged with its traceback, and the next try follows as after any failure. A step that took longer than five times
    the longest pause counts as success: the pauses begin anew.
    """
    loop = asyncio.get_running_loop()
    while True:
        began = loop.time()
        try:
            await step()
        except RegistryError as error:
            logger.debug("%s: trying again", error)
        except Exception:
            logger.exception("unexpected failure: trying again")
        if loop.time() - began > 5 * backoff.cap:
            backoff.reset()
        await asyncio.sleep(backoff.next())
