"""Changes that are written behind, among crashes, zombies, lost answers, and instances that know too little."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shop_services.product import pending_storage
from shop_services.product.behind import BehindChanges
from shop_services.product.domain import Product
from shop_services.product.overlay import Overlay
from shop_services.product.pending import Pending, Step
from shop_services.product.wiring import MIGRATIONS
from shop_services.runtime.errors import NotFound
from shop_services.storage import Database, KeptReply, Replies, migrate
from tests.simulation.behind import open_world, prepare
from tests.simulation.runs import story

STEPS = 200

Defect = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with some products, to copy."""
    path = tmp_path_factory.mktemp("behind") / "prepared.db"

    async def make() -> None:
        async with Database(f"sqlite:///{path}", service="product") as database:
            await migrate(database, "product", MIGRATIONS)
            await prepare(database)

    asyncio.run(make())
    return path


def run(prepared: Path, rng: Random) -> list[str]:
    """Simulate one catalog; returns what happened."""

    async def simulate(path: Path, log: list[str]) -> None:
        async with open_world(path, rng) as world:
            world.log = log
            await world.simulate(STEPS)

    return story(prepared, simulate)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(rng=st.randoms(use_true_random=False))
def test_what_was_acknowledged_holds(prepared: Path, rng: Random) -> None:
    """Whatever happens in whatever order: nothing acknowledged is lost, done twice or undone, and reads show it."""
    run(prepared, rng)


@pytest.mark.parametrize("seed", range(20))
def test_what_was_acknowledged_holds_from_a_seed(prepared: Path, seed: int) -> None:
    """The same in a world that a plain generator disturbs, where more goes on at once."""
    run(prepared, Random(seed))


def everything_is_written(patch: pytest.MonkeyPatch) -> None:
    """A drainer writes whatever it has, also over what came after it."""

    def step(pending: Pending, row: Product | None) -> Step:
        if row is None or row.revision == pending.product.revision:
            return Step.IN_PLACE
        return Step.DELETE if pending.deleted else Step.UPDATE

    patch.setattr(pending_storage, "step", step)


def refusals_are_not_confirmed(patch: pytest.MonkeyPatch) -> None:
    """An instance refuses by what it knows, which may be out of date."""

    async def nothing(_self: object, _product_id: str, _sequence: int) -> None:
        return

    patch.setattr(BehindChanges, "_confirm", nothing)


def a_state_replaces_only_the_one_before(patch: pytest.MonkeyPatch) -> None:
    """Which was perhaps never written."""
    then = Pending.then

    def forget(self: Pending, after: Product, *, deleted: bool, reply: KeptReply | None) -> Pending:
        state = then(self, after, deleted=deleted, reply=reply)
        return replace(state, replaces=state.replaces[-1:])

    patch.setattr(Pending, "then", forget)


def replies_are_not_written(patch: pytest.MonkeyPatch) -> None:
    """They are gone with their records."""

    async def nothing(*_: object) -> None:
        return

    patch.setattr(Replies, "keep", nothing)


def states_vanish_at_once(patch: pytest.MonkeyPatch) -> None:
    """A read that looked at the database before a state was written, and at the overlay after, shows neither."""

    def shown(self: Overlay, product_id: str, _began: float) -> Pending | None:
        entry = self.entry(product_id)
        return entry.state if entry is not None and entry.active else None

    patch.setattr(Overlay, "shown", shown)


# Beside each, the first seed that finds it at this time: if the code changes what a seed means, another one does.
@pytest.mark.parametrize(
    ("defect", "first"),
    [
        (everything_is_written, 8),
        (refusals_are_not_confirmed, 0),
        (a_state_replaces_only_the_one_before, 0),
        (replies_are_not_written, 0),
        (states_vanish_at_once, 9),
    ],
)
def test_a_defect_is_found(prepared: Path, monkeypatch: pytest.MonkeyPatch, defect: Defect, first: int) -> None:
    """The simulation can fail: within two hundred seeds it finds each of these."""
    defect(monkeypatch)

    def look() -> None:
        for seed in range(first, first + 200):
            run(prepared, Random(seed))

    with pytest.raises((AssertionError, NotFound)):
        look()


def test_a_seed_repeats_exactly(prepared: Path) -> None:
    """Two runs tell the same story, word by word, and two seeds do not."""
    first, again, other = (run(prepared, Random(seed)) for seed in (1, 1, 2))
    assert first == again != other
