"""Whether a failed call is made again, and when: gRFC A6 as amended up to 2024, without clock, timer or I/O.

Only failures that a server may have had a part in come here. An attempt that provably never reached one is repeated
without asking (A6's "transparent retries"): it counts neither towards `maxAttempts` nor against the throttle.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable, Sequence

from grpc import StatusCode

from grpc_registry.service_config import RetryPolicy, RetryThrottling

PUSHBACK = "grpc-retry-pushback-ms"
"""Trailing metadata by which a server says when to try again, or not to."""

PREVIOUS_ATTEMPTS = "grpc-previous-rpc-attempts"
"""Metadata of every attempt but the first: how many there were before it."""

NEVER = math.inf
"""The delay before an attempt that is not to be made."""

_LEAST_JITTER, _MOST_JITTER = 0.8, 1.2
_MILLISECONDS = re.compile(r"0|[1-9][0-9]{0,9}")
_MOST_MILLISECONDS = 2**31 - 1


def pushback(values: Sequence[str | bytes]) -> float | None:
    """What a server says by its values of `PUSHBACK`: seconds to wait, `NEVER`, or nothing at all (None).

    gRFC A6: "an ASCII encoded signed 32-bit integer with no unnecessary leading zeros [...]. If the value for pushback
    is negative or unparseble, then it will be seen as the server asking the client not to retry at all."
    """
    if not values:
        return None
    value = values[0]
    if len(values) > 1 or not isinstance(value, str) or not _MILLISECONDS.fullmatch(value):
        return NEVER
    milliseconds = int(value)
    return milliseconds / 1000 if milliseconds <= _MOST_MILLISECONDS else NEVER


def announce(
    metadata: Iterable[tuple[str, str | bytes]] | None, previous_attempts: int
) -> list[tuple[str, str | bytes]]:
    """The metadata of an attempt that is not the first: the call's, and how many attempts came before.

    A caller that passes on the metadata of a call that it serves does not mean that call's attempts.
    """
    kept = [entry for entry in metadata or () if entry[0] != PREVIOUS_ATTEMPTS]
    return [*kept, (PREVIOUS_ATTEMPTS, str(previous_attempts))]


class Throttle:
    """The tokens of one channel: failures take them, successes give them back, whatever the method.

    They are counted in thousandths, as whole numbers, since `tokenRatio` has three decimals.
    """

    __slots__ = ("_gain", "_most", "_tokens")

    def __init__(self, limits: RetryThrottling) -> None:
        self._tokens = self._most = limits.max_tokens * 1000
        self._gain = round(limits.token_ratio * 1000)

    @classmethod
    def of(cls, limits: RetryThrottling | None) -> Throttle | None:
        """The throttle of a service config; None if it has none."""
        return None if limits is None else cls(limits)

    def succeeded(self) -> None:
        # gRFC A6: "Every successful RPC will increment the token_count by tokenRatio."
        self._tokens = min(self._tokens + self._gain, self._most)

    def failed(self) -> None:
        # gRFC A6: "Every failed RPC will decrement the token_count by 1."
        self._tokens = max(self._tokens - 1000, 0)

    @property
    def allows(self) -> bool:
        """Whether calls may be made again now."""
        # gRFC A6: "If token_count is less than or equal to the threshold, defined to be (maxTokens / 2), then RPCs will
        # not be retried until token_count rises over the threshold."
        return 2 * self._tokens > self._most

    def __repr__(self) -> str:
        return f"<Throttle {self._tokens / 1000:g} of {self._most / 1000:g} tokens>"


class Retrying:
    """One call under a retry policy: which attempt it is at, and how long it waits for the next."""

    __slots__ = ("_backoff", "_growth", "_policy", "_rng", "_throttle", "previous_attempts")

    def __init__(self, policy: RetryPolicy, throttle: Throttle | None, rng: random.Random) -> None:
        self.previous_attempts = 0
        self._policy = policy
        self._throttle = throttle
        self._rng = rng
        self._begin_backoff()

    def delay(self, code: StatusCode, said: float | None, *, repeatable: bool, remaining: float | None) -> float:
        """Seconds from the failure of the current attempt to the next one, which is then the current, or `NEVER`.

        Args:
            code: what the attempt failed with.
            said: what the server said about that, as `pushback` reads it.
            repeatable: whether the call is not yet *committed*, as A6 has it: no response was received, and all that
                was sent can be sent again.
            remaining: seconds until the call's deadline, if it has one.
        """
        retryable = code in self._policy.codes
        if self._throttle is not None and (retryable or said == NEVER):
            # gRFC A6: "The only RPCs that are counted as failures for the throttling policy are RPCs that fail with a
            # status code that qualifies as a retryable [...], or that receive a pushback response indicating not to
            # retry." That the call may not be made again for another reason does not matter.
            self._throttle.failed()
        if not retryable or said == NEVER or not repeatable:
            return NEVER
        if self._throttle is not None and not self._throttle.allows:
            return NEVER
        if self.previous_attempts + 1 >= self._policy.max_attempts:
            # gRFC A6: "If the client has already exhausted its maxAttempts, the call will not be retried even if the
            # server says to retry after a given delay."
            return NEVER
        if said is None:
            delay = self._next_backoff()
        else:
            # gRFC A6: "it will retry after exactly that delay. For subsequent retries, the delay period will be reset
            # to the initialBackoff setting".
            delay = said
            self._begin_backoff()
        if remaining is not None and delay >= remaining:
            # gRFC A6: "gRPC's call deadline applies across all attempts for a given RPC." No attempt could come of this
            # wait, and its end would replace the reason of the failure by DEADLINE_EXCEEDED.
            return NEVER
        self.previous_attempts += 1
        return delay

    def _begin_backoff(self) -> None:
        self._growth = 1.0
        self._backoff = self._policy.initial_backoff

    def _next_backoff(self) -> float:
        # gRFC A6: "The initial retry attempt will occur after initialBackoff * random(0.8, 1.2). After that, the n-th
        # attempt will occur after min(initialBackoff*backoffMultiplier**(n-1), maxBackoff) * random(0.8, 1.2)."
        delay = self._backoff * self._rng.uniform(_LEAST_JITTER, _MOST_JITTER)
        self._growth *= self._policy.backoff_multiplier
        self._backoff = min(self._policy.initial_backoff * self._growth, self._policy.max_backoff)
        return delay
