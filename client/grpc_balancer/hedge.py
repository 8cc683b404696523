"""When a hedged call is sent again, and what the end of an attempt means for it: gRFC A6, without clock, timer or I/O.

An attempt that provably never reached a server is taken back, and made elsewhere at once (A6's "transparent retries").
"""

from __future__ import annotations

from grpc import StatusCode

from grpc_balancer.retry import NEVER, Throttle
from grpc_registry.service_config import HedgingPolicy

LEAST_PAUSE = 0.1
"""Seconds until a hedge that found no endpoint looks again, if the hedging delay is shorter."""

_BEGINNING = float("-inf")


class Hedging:
    """One call under a hedging policy. Times are seconds of one clock, whichever; `now` is its time."""

    __slots__ = ("_delay", "_due", "_held_until", "_left", "_non_fatal", "_throttle", "previous_attempts")

    def __init__(self, policy: HedgingPolicy, throttle: Throttle | None) -> None:
        self.previous_attempts = 0
        """Of the next attempt: how many were sent."""
        self._delay = policy.delay
        self._non_fatal = policy.codes
        self._left = policy.max_attempts
        self._throttle = throttle
        self._due = _BEGINNING
        self._held_until = _BEGINNING

    def sent(self, now: float) -> None:
        """An attempt was sent."""
        self.previous_attempts += 1
        self._left -= 1
        self._due = now + self._delay

    def unsent(self, now: float) -> None:
        """An attempt has reached nobody: it does not count, and another is due in its place."""
        self.previous_attempts -= 1
        self._left += 1
        self._due = now

    def found_none(self, now: float) -> None:
        """There was no endpoint for the attempt that is due: it is due again later."""
        self._due = now + max(self._delay, LEAST_PAUSE)

    def failed(self, code: StatusCode, said: float | None, now: float) -> bool:
        """Take the failure of an attempt, with what the server said about that, as `retry.pushback` reads it.

        Returns whether it is fatal: the call's own end, whatever the other attempts may come to.
        """
        fatal = code not in self._non_fatal
        if self._throttle is not None and (not fatal or said == NEVER):
            # gRFC A6: "The only RPCs that are counted as failures for the throttling policy are RPCs that fail with a
            # status code that qualifies as a [...] non-fatal status code, or that receive a pushback response
            # indicating not to retry."
            self._throttle.failed()
        if said == NEVER:
            # gRFC A6: "If the pushback says not to retry, no further hedged requests will be sent."
            self._left = 0
        elif said is not None:
            # gRFC A6: "If the pushback says to retry after a given delay, the next hedged request (if any) will be
            # issued after the given delay has elapsed." Nor does the failure of another attempt bring it forward.
            self._due = self._held_until = max(self._held_until, now + said)
        else:
            # gRFC A6: "If a non-fatal status code is received from a hedged request, then the next hedged request in
            # line is sent immediately, shortcutting its hedging delay."
            self._due = now
        return fatal

    def wait(self, now: float, *, alone: bool, remaining: float | None) -> float:
        """Seconds until the next attempt is to be sent, or `NEVER`.

        Args:
            alone: whether no attempt is in progress.
            remaining: seconds until the call's deadline, if it has one.
        """
        wait = max(0.0, max(self._due, self._held_until) - now)
        throttled = self.previous_attempts > 0 and self._throttle is not None and not self._throttle.allows
        if throttled and (alone or not wait):
            # gRFC A6: "subsequent hedged RPCs will only be sent if token_count is greater than the threshold. Neither
            # retry attempts or hedged RPCs block [...]. The hedged request is cancelled, and if there are no other
            # already-sent hedged RPCs the failure is returned". So this one is left out, not put off.
            if alone:
                return NEVER
            self._left -= 1
            self._due, wait = now + self._delay, self._delay
            if not wait:
                return NEVER  # all of them are due now
        if self._left <= 0 or (remaining is not None and wait >= remaining):
            return NEVER
        return wait
