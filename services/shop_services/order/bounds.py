"""How long an order may stand still before the sweep moves it on. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from shop_services.order.saga import Status

_LONGEST = timedelta(hours=1)
_TIMELY = (Status.PENDING, Status.PROCESSING)


class Standing(Protocol):
    """What the bounds look at: an order, or what the sweep knows of one."""

    @property
    def status(self) -> Status:
        """How far it has come."""

    @property
    def create_time(self) -> datetime:
        """When it was recorded."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """An order that made no progress for `stuck` is nudged, then after twice that and so on, at most an hour.

    One that is not paid for within `timeout` is given up. The defaults of both are those of SHOP_ORDER_STUCK and
    SHOP_ORDER_TIMEOUT.
    """

    stuck: timedelta
    timeout: timedelta

    def due(self, order: Standing, nudges: int, now: datetime) -> datetime:
        """When the sweep must look at an order that was nudged so often since it last moved."""
        doublings: int = 2 ** min(nudges, 16)  # an hour is long reached
        due = now + min(self.stuck * doublings, max(self.stuck, _LONGEST))
        return min(due, order.create_time + self.timeout) if order.status in _TIMELY else due

    def exceeded(self, order: Standing, now: datetime) -> bool:
        """Whether the order is to be given up."""
        return order.status in _TIMELY and now >= order.create_time + self.timeout
