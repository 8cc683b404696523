"""What is known of recent changes, against a model of the database that knows all of them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shop_services.product.domain import ChangeType
from shop_services.product.recent import CATEGORY, PRODUCT, RecentChanges, Touched

_BOUND = 1.0
_NAMES = ("a", "b", "c")


def _updated(revision: int, product: str, category: str = "x", previous: str | None = "x") -> Touched:
    return Touched.of(revision, ChangeType.UPDATED, product, category, previous)


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


@pytest.fixture
def recent(clock: _Clock) -> RecentChanges:
    return RecentChanges(_BOUND, clock=clock)


def test_before_the_first_look_nothing_is_current(recent: RecentChanges) -> None:
    """Who knows nothing yet can vouch for nothing, though the database was seen at that very revision."""
    recent.saw(7)
    assert not recent.is_current("product/p", 7)


def test_a_product_and_its_lists_are_out_of_date_after_a_change(recent: RecentChanges, clock: _Clock) -> None:
    """The lists of the category that it left, of the one it entered, and of all; others stay current."""
    recent.looked(clock.now, 0, 5, [_updated(5, "p", "new", "old")])
    keys = ("product/p", "category/new", "category/old", "category/")
    assert [recent.is_current(key, 4) for key in keys] == [False] * 4
    assert [recent.is_current(key, 5) for key in keys] == [True] * 4
    recent.saw(6)
    recent.looked(clock.now, 5, 6, [_updated(6, "q", "new", "new")])
    assert [recent.is_current(key, 5) for key in keys] == [True, False, True, False]
    assert recent.is_current("category/other", 5)


@pytest.mark.parametrize("kind", [ChangeType.CREATED, ChangeType.DELETED])
def test_a_product_that_comes_or_goes_touches_its_category(
    recent: RecentChanges, clock: _Clock, kind: ChangeType
) -> None:
    """So that a negative copy of it ends when it is created, and every list shows it, or no longer does."""
    recent.looked(clock.now, 0, 2, [_updated(1, "other"), Touched.of(2, kind, "p", "new", None)])
    for key in ("product/p", "category/new", "category/"):
        assert not recent.is_current(key, 1)
    assert recent.is_current("category/x", 1)


def test_an_update_of_unknown_origin_touches_every_list(recent: RecentChanges, clock: _Clock) -> None:
    """Rows that were logged before categories were do not say which one the product left; products stay current."""
    recent.looked(clock.now, 0, 2, [_updated(1, "q"), _updated(2, "p", "new", None)])
    assert not recent.is_current("category/whichever", 1)
    assert recent.is_current("category/whichever", 2)
    assert recent.is_current("product/other", 1)


def test_the_proof_ages_from_when_the_look_began(recent: RecentChanges, clock: _Clock) -> None:
    """A look that took long proves nothing about the time that it took."""
    began = clock.now
    clock.now += 0.8
    recent.looked(began, 0, 1, [_updated(1, "p")])
    clock.now = began + _BOUND
    assert recent.is_current("product/p", 1)
    clock.now = began + _BOUND + 0.001
    assert not recent.is_current("product/p", 1)
    assert not recent.usable


def test_a_look_that_left_something_unread_proves_nothing(recent: RecentChanges, clock: _Clock) -> None:
    """While it catches up, no copy is vouched for."""
    assert not recent.looked(clock.now, 0, 3, [_updated(1, "p"), _updated(2, "p")])
    assert not recent.is_current("product/q", 2)
    assert recent.looked(clock.now, 2, 3, [_updated(3, "p")])
    assert recent.is_current("product/q", 2)


def test_an_own_change_counts_at_once(recent: RecentChanges, clock: _Clock) -> None:
    """Before the next look, and also when others changed the catalog in between, which is not known yet."""
    recent.looked(clock.now, 0, 1, [_updated(1, "p")])
    recent.told(_updated(2, "p"))
    assert (recent.head, recent.is_current("product/p", 1), recent.is_current("product/p", 2)) == (2, False, True)
    recent.told(_updated(4, "q"))
    assert (recent.head, recent.is_current("product/q", 2), recent.is_current("product/q", 4)) == (2, False, True)
    recent.looked(clock.now, 2, 4, [_updated(3, "p"), _updated(4, "q")])
    assert (recent.head, recent.is_current("product/p", 2), recent.is_current("product/q", 4)) == (4, False, True)


def test_an_own_change_is_remembered_over_a_first_look_that_began_before_it(
    recent: RecentChanges, clock: _Clock
) -> None:
    """What is forgotten because the log no longer has it is older than that."""
    recent.told(_updated(51, "p"))
    assert recent.looked(clock.now, 0, 50, [_updated(revision, "q") for revision in range(41, 51)])
    assert (recent.floor, recent.head) == (40, 50)
    assert not recent.is_current("product/p", 50)
    assert recent.is_current("product/p", 51)


def test_what_came_before_the_kept_log_is_not_vouched_for(recent: RecentChanges, clock: _Clock) -> None:
    """A copy as of a change before the kept ones may have been changed by one that is gone."""
    recent.looked(clock.now, 0, 50, [_updated(revision, "q") for revision in range(41, 51)])
    assert not recent.is_current("product/p", 39)
    assert recent.is_current("product/p", 40)


def test_a_follower_that_was_overtaken_by_the_log_vouches_for_nothing_older(
    recent: RecentChanges, clock: _Clock
) -> None:
    """When changes were dropped before they were read, copies from before them are not used."""
    recent.looked(clock.now, 0, 5, [_updated(revision, "p") for revision in range(1, 6)])
    recent.looked(clock.now, 5, 30, [_updated(revision, "p") for revision in range(21, 31)])
    assert not recent.is_current("product/q", 19)
    assert recent.is_current("product/q", 20)


def test_a_copy_from_beyond_the_database_is_not_current(recent: RecentChanges, clock: _Clock) -> None:
    """It is another catalog's, or one's that was restored; once the database was seen so far, it counts."""
    recent.looked(clock.now, 0, 1, [_updated(1, "p")])
    assert not recent.is_current("product/q", 2)
    recent.saw(2)
    assert recent.is_current("product/q", 2)


def test_a_catalog_that_went_back_vouches_for_no_copy_of_either_history(recent: RecentChanges, clock: _Clock) -> None:
    """After a backup was restored, copies are used again once it has passed the point where it was before."""
    recent.looked(clock.now, 0, 5, [_updated(revision, "p") for revision in range(1, 6)])
    assert not recent.looked(clock.now, 5, 3, [])
    assert not recent.usable
    assert recent.looked(clock.now, 3, 4, [_updated(4, "q")])
    assert recent.usable
    assert not any(recent.is_current("product/p", as_of) for as_of in range(6))
    recent.looked(clock.now, 4, 7, [_updated(revision, "q") for revision in (5, 6, 7)])
    assert recent.is_current("product/p", 7)


def test_a_catalog_that_went_back_to_what_is_not_followed_yet_is_noticed(recent: RecentChanges, clock: _Clock) -> None:
    """Also one that was restored to a place that the log was not followed to yet, if it was read beyond it before."""
    recent.looked(clock.now, 0, 1, [_updated(1, "q")])
    recent.saw(3)
    assert not recent.looked(clock.now, 1, 2, [_updated(2, "q")], seen=recent.ceiling)
    assert recent.looked(clock.now, 2, 3, [_updated(3, "p")], seen=recent.ceiling)
    assert not recent.is_current("product/p", 3)
    assert recent.looked(clock.now, 3, 4, [_updated(4, "q")], seen=recent.ceiling)
    assert recent.is_current("product/p", 4)


def test_what_is_required_to_be_known_holds_everything_back(recent: RecentChanges, clock: _Clock) -> None:
    """Until the look that has it."""
    recent.looked(clock.now, 0, 1, [_updated(1, "p")])
    recent.require(2)
    assert not recent.is_current("product/q", 1)
    recent.looked(clock.now, 1, 2, [_updated(2, "p")])
    assert recent.is_current("product/q", 1)


def test_what_is_remembered_is_bounded(clock: _Clock) -> None:
    """The keys whose change is longest ago are forgotten, and copies from before that are no longer vouched for."""
    recent = RecentChanges(_BOUND, clock=clock, limit=10)
    recent.looked(clock.now, 0, 100, [_updated(revision, f"p{revision}") for revision in range(1, 101)])
    assert "10 keys" in repr(recent)
    assert recent.floor == 92
    assert not recent.is_current("product/q", 91)
    assert recent.is_current("product/q", 92)


_Change = tuple[str, str, str | None, ChangeType]
_CHANGE: st.SearchStrategy[_Change] = st.tuples(
    st.sampled_from(_NAMES), st.sampled_from("xy"), st.sampled_from(["x", "y", None]), st.sampled_from(ChangeType)
)
"""The product, the category that it is in, the one it was in before, and what happened."""


@dataclass
class _Committed:
    touched: Touched
    time: float


class RecentChangesMachine(RuleBasedStateMachine):
    """Two processes change a catalog; ours follows the log, late and with looks that overlap changes, in any order."""

    @initialize(kept=st.integers(1, 5), limit=st.integers(4, 12))
    def begin(self, kept: int, limit: int) -> None:
        self.clock = _Clock()
        self.recent = RecentChanges(_BOUND, clock=self.clock, limit=limit)
        self.log: list[_Committed] = []
        self.kept = kept
        self.look: tuple[float, int, int, list[Touched]] | None = None
        self.own: list[Touched] = []

    def _commit(self, change: _Change) -> Touched:
        name, category, previous, kind = change
        touched = Touched.of(len(self.log) + 1, kind, name, category, previous)
        self.log.append(_Committed(touched, self.clock.now))
        return touched

    @rule(changes=st.lists(_CHANGE, min_size=1, max_size=6))
    def another_process_commits(self, changes: list[_Change]) -> None:
        for change in changes:
            self._commit(change)

    @rule(change=_CHANGE)
    def this_process_commits(self, change: _Change) -> None:
        touched = self._commit(change)
        self.recent.told(touched)
        self.own.append(touched)

    @rule()
    def this_process_loads(self) -> None:
        self.recent.saw(len(self.log))

    @precondition(lambda self: self.look is None)
    @rule(limit=st.integers(1, 3))
    def a_look_begins(self, limit: int) -> None:
        after = self.recent.head
        kept = [committed.touched for committed in self.log[-self.kept :] if committed.touched.revision > after]
        self.look = (self.clock.now, after, len(self.log), kept[:limit])

    @precondition(lambda self: self.look is not None)
    @rule(lost=st.booleans())
    def the_look_ends(self, lost: bool) -> None:
        assert self.look is not None
        if not lost:
            self.recent.looked(*self.look)
        self.look = None

    @precondition(lambda self: self.look is None)
    @rule(limit=st.integers(1, 3))
    def it_catches_up(self, limit: int) -> None:
        seen = False
        while not seen:
            self.a_look_begins(limit)
            assert self.look is not None
            seen = self.recent.looked(*self.look)
        self.look = None

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.1]))
    def time_passes(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def no_current_copy_is_older_than_the_bound(self) -> None:
        """Whatever touched a key after a copy that counts as current was committed within the bound, elsewhere."""
        if not hasattr(self, "log"):
            return
        keys = [PRODUCT + name for name in _NAMES] + [CATEGORY, CATEGORY + "x", CATEGORY + "y", CATEGORY + "z"]
        for as_of in range(len(self.log) + 1):
            later = self.log[as_of:]
            for key in keys:
                if self.recent.is_current(key, as_of):
                    missed = [committed for committed in later if _touches(committed.touched, key)]
                    assert all(self.clock.now - committed.time <= _BOUND for committed in missed)
                    assert not any(committed.touched in self.own for committed in missed)


def _touches(touched: Touched, key: str) -> bool:
    if key.startswith(PRODUCT):
        return key == PRODUCT + touched.product_id
    name = key.removeprefix(CATEGORY)
    return not name or touched.categories is None or name in touched.categories


TestRecentChanges = RecentChangesMachine.TestCase
