"""How often one address, and one token, may ask: token buckets in tables of a bounded size."""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from time import monotonic

from starlette.types import Scope

from shop_services.runtime.settings import SettingError

KEPT = 10_000
"""Addresses, and tokens, whose buckets are known at most. Who asked longest ago is forgotten: by then it is full."""

_LONGEST = 1000  # entries of X-Forwarded-For are not looked at beyond so many bytes


class Buckets:
    """A bucket for each key: `rate` tokens a second flow in, `burst` fit in, a request takes one. Not thread-safe.

    At most `kept` keys are known; a key that is not has a full bucket.
    """

    def __init__(self, rate: float, burst: int, *, kept: int = KEPT, now: Callable[[], float] = monotonic) -> None:
        self._interval = 1 / rate
        self._depth = (burst - 1) * self._interval
        self._kept = kept
        self._now = now
        # GCRA: of a bucket only the time is kept at which it will be full again.
        self._full_at: OrderedDict[bytes, float] = OrderedDict()

    def wait(self, key: bytes) -> float:
        """Seconds until the bucket has a token for a request; 0 if it has one now. Takes nothing."""
        full_at = self._full_at.get(key)
        return 0.0 if full_at is None else max(0.0, full_at - self._depth - self._now())

    def take(self, key: bytes) -> None:
        """Take a token, which `wait` has found there."""
        now = self._now()
        self._full_at[key] = max(self._full_at.get(key, now), now) + self._interval
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._kept:
            self._full_at.popitem(last=False)

    def __len__(self) -> int:
        return len(self._full_at)


class Proxies:
    """The addresses whose X-Forwarded-For is believed, from SHOP_TRUSTED_PROXIES.

    Raises:
        SettingError: one is neither an address nor a network.
    """

    def __init__(self, listed: str) -> None:
        try:
            self._networks = tuple(ipaddress.ip_network(one.strip()) for one in listed.split(",") if one.strip())
        except ValueError as error:
            allowed = f"addresses and networks, separated by commas: {error}"
            raise SettingError("SHOP_TRUSTED_PROXIES", allowed) from None

    def trusts(self, address: str) -> bool:
        """Whether `address` is one of them."""
        if not self._networks:
            return False
        try:
            parsed = _parsed(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def client(self, peer: str, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Who sent the request that came from `peer`: the last address that no trusted proxy has put in front of."""
        if not self.trusts(peer):
            return peer
        sent = b",".join(value for name, value in headers if name == b"x-forwarded-for")[-_LONGEST:]
        for hop in reversed(sent.decode("latin-1").split(",")):
            try:
                address = str(_parsed(hop.strip()))
            except ValueError:
                break  # what no proxy writes ends what can be believed
            peer = address
            if not self.trusts(address):
                break
        return peer


class Rates:
    """The limits of one gateway. A request takes a token from the bucket of its address and from that of its token.

    Requests that are `guarded`, each a method and a path, take one from a much smaller bucket as well, of their own.
    Rate 0 lifts all limits.
    """

    def __init__(
        self,
        rate: float,
        burst: int,
        proxies: Proxies,
        *,
        guarded: Iterable[tuple[str, str]] = (),
        guarded_rate: float = 1.0,
        guarded_burst: int = 20,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self.proxies = proxies
        self.limited = 0
        """Requests that were refused. Who refuses counts."""
        self._by_address = self._by_token = self._guarded = None
        self._routes = {route: b"%d " % number for number, route in enumerate(guarded)}
        if rate:
            self._by_address, self._by_token = Buckets(rate, burst, now=now), Buckets(rate, burst, now=now)
            self._guarded = Buckets(guarded_rate, guarded_burst, now=now)

    @property
    def limits(self) -> bool:
        """Whether there are any."""
        return self._by_address is not None

    def exhausted(self, bucket: bytes) -> float:
        """Seconds until the address that has this bucket may ask again, whatever it asks. Takes nothing."""
        return 0.0 if self._by_address is None else self._by_address.wait(bucket)

    def wait(self, scope: Scope) -> float:
        """Take the tokens that a request needs. If they are not there, nothing, but the seconds until they are."""
        if self._by_address is None or self._by_token is None or self._guarded is None:
            return 0.0
        buckets = [(self._by_address, bucket_of(scope["client"][0] if scope["client"] else ""))]
        for name, value in scope["headers"]:
            if name == b"authorization":
                buckets.append((self._by_token, value[-128:]))  # the signature: what differs between tokens
                break
        if (route := self._routes.get((scope["method"], scope["path"]))) is not None:
            buckets.append((self._guarded, route + buckets[0][1]))
        wait = max(bucket.wait(key) for bucket, key in buckets)
        if wait > 0:
            return wait
        for bucket, key in buckets:
            bucket.take(key)
        return 0.0


def bucket_of(address: str) -> bytes:
    """The key of an address: of IPv6 the network of 64 bits, which is the least that one customer of a provider has."""
    if ":" not in address:
        return address.encode("latin-1", "replace")
    try:
        parsed = _parsed(address)
    except ValueError:
        return b"?"
    return parsed.packed if parsed.version == 4 else parsed.packed[:8]


def seconds(wait: float) -> bytes:
    """A wait as Retry-After says it."""
    return str(max(1, math.ceil(wait))).encode()


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address
