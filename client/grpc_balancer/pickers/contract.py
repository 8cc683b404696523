"""What a policy is made of: a `Picker` chooses among `Candidate`s; a `PickerFactory` makes one for each set of them.

A picker is made anew whenever the set changes, and is never told of changes; what must survive them (load) lives on the
candidates. All of it runs in the event loop's thread, on the path of every call: `pick` never waits and never blocks.

A policy of one's own:

    class First:
        def __init__(self, candidates, rng):
            self._first = candidates[0]

        def pick(self, call):
            return self._first

    register_policy("first", First)
    channel = Channel("product", registry, policy="first")

A picker may offer more, and is asked for it if it does:

- `pick_excluding(call, excluded) -> Candidate | None`: as `pick`, but none of the collection `excluded`; None if no
  candidate is left. Retries, hedges and calls that find an endpoint at its limit use it. Without it a picker is made of
  those left for each of them, which takes time for each endpoint.
- `scores(call) -> Sequence[float]` and `candidates`, in the same order: what `pick` would go by, the least the best.
  For `Channel.explain`. It changes nothing, and draws nothing from `rng`.
- `owner(call) -> Candidate | None`: whose the call is by its key; None if it has none. For `Channel.owner`. Likewise.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

import grpc.aio

from grpc_balancer.load import Load
from grpc_registry import Instance


class CallInfo(Protocol):
    """What a picker may know of the call that it picks for."""

    @property
    def method(self) -> str:
        """The RPC's full name, like `/shop.product.v1.ProductService/GetProduct`."""

    @property
    def metadata(self) -> grpc.aio.Metadata | Sequence[tuple[str, str | bytes]] | None:
        """The request's metadata as the caller gave it."""


class Candidate(Protocol):
    """An endpoint that may be picked now: connected, and serving."""

    @property
    def instance(self) -> Instance:
        """The registered instance: id, address, zone, version, metadata."""

    @property
    def weight(self) -> int:
        """A positive number, relative to the other candidates'. It is fixed for the life of a picker."""

    @property
    def load(self) -> Load:
        """Calls in progress now, recent failures and latency; read it at each pick."""


class Picker(Protocol):
    """Chooses an endpoint for each call."""

    def pick(self, call: CallInfo) -> Candidate:
        """Return one of the candidates that the picker was made with. Must not block; an exception fails the call."""


class PickerFactory(Protocol):
    """Makes a picker for a set of candidates, of which there is at least one; the class of a picker will do.

    The candidates come in the order in which they became ready, the longest connected first. All randomness must come
    from `rng`, so that a seeded run repeats exactly.
    """

    def __call__(self, candidates: Sequence[Candidate], rng: random.Random, /) -> Picker: ...
