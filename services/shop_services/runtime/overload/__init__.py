"""What a server does when more is asked of it than it can do: it says so at once, and serves the others as ever."""

from shop_services.runtime.overload.concurrency import Concurrency
from shop_services.runtime.overload.counts import LimitCounts
from shop_services.runtime.overload.limit import Bounds, ConcurrencyLimit, Slot
from shop_services.runtime.overload.telling import Telling

__all__ = ["Bounds", "Concurrency", "ConcurrencyLimit", "LimitCounts", "Slot", "Telling"]
