"""What a login is, and how often a password may be tried. Pure: no protobuf, no database, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shop_services.runtime.errors import ResourceExhausted

REPETITION = timedelta(seconds=10)
"""For how long a refresh token that was used may be shown again: by a client whose answer was lost, or by its other
tab. RFC 9700, section 4.14.2, has no such time; without one, each lost answer would end a login."""

ATTEMPTS = 10
"""How many failed attempts to log in by one name may follow each other at once."""
PAUSE = timedelta(minutes=1)
"""How long one of them counts: after `ATTEMPTS` at once, the next may be made each minute. NIST SP 800-63B, section
5.2.2, allows 100 in a row."""


class TokenReused(Exception):
    """A refresh token was used before: one of the two who showed it is not who it was given to."""


@dataclass(frozen=True, slots=True)
class Login:
    """One login of a user, from the password until it is ended, or not used for as long as a refresh token is good.

    `token_id` is the id of the refresh token that is good now; `used_token_id` that of the one that it was given for,
    and empty at first.
    """

    id: str
    user_id: str
    token_id: str
    used_token_id: str
    renew_time: datetime

    def renewed(self, shown: str, token_id: str, now: datetime) -> Login:
        """The login after the refresh token with the id `shown` was used: `token_id` is the id of the next.

        An immediate repetition gets the token that the first use got, so that there is never more than one.

        Raises:
            TokenReused: the token was used before.
        """
        if shown == self.token_id:
            return replace(self, token_id=token_id, used_token_id=shown, renew_time=now)
        if shown == self.used_token_id and now - self.renew_time <= REPETITION:
            return self
        raise TokenReused


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a login gives to identify oneself by."""

    access: str = field(repr=False)
    access_expire_time: datetime
    refresh: str = field(repr=False)
    refresh_expire_time: datetime


def attempted(counted_until: datetime | None, now: datetime) -> datetime:
    """Until when the attempts for a name count, with one made now; `counted_until` is the same before it.

    This is the generic cell rate algorithm (ITU-T I.371): one time is all that has to be kept of a name.

    Raises:
        ResourceExhausted: there were too many.
    """
    until = max(counted_until or now, now) + PAUSE
    wait = until - now - ATTEMPTS * PAUSE
    if wait > timedelta(0):
        raise ResourceExhausted(
            "login",
            "too many failed attempts to log in by this name; try again later",
            reason="TOO_MANY_ATTEMPTS",
            retry_after=timedelta(seconds=-(-wait // timedelta(seconds=1))),  # whole seconds, upwards
        )
    return until
