"""The check of what was read finds every answer that was too old, and no other."""

from __future__ import annotations

import pytest

from campaigns.catalog.history import (
    NOT_LISTED,
    STALE,
    STILL_LISTED,
    UNWRITTEN,
    History,
    Read,
    States,
)

BOUND = 1.0


def history() -> History:
    """A product in "books" from 0 s on; state 1 is written from 10 to 11 s into "games", state 2 from 20 s."""
    states = States.first("books", 0.0)
    for number, category in ((1, "games"), (2, "games")):
        assert states.begin(category, 10.0 * number) == number
        states.end(10.0 * number + 1)
    return History({"p": states})


def found(shown: dict[str, int], began: float, ended: float, category: str = "") -> list[str]:
    played = history()
    played.reads.append(Read(began, ended, shown, category))
    return [breach.what for breach in played.breaches(BOUND, BOUND)]


@pytest.mark.parametrize(
    ("number", "began", "ended", "breaches"),
    [
        (0, 5.0, 5.1, []),
        (1, 5.0, 5.1, [UNWRITTEN]),
        (1, 9.9, 10.1, []),  # it was being written when the read ended
        (0, 11.9, 12.5, []),  # replaced 0.9 s before
        (0, 12.1, 12.5, [STALE]),
        (0, 30.0, 30.1, [STALE]),
        (1, 21.5, 25.0, []),
        (1, 22.5, 25.0, [STALE]),
        (2, 22.5, 25.0, []),
        (3, 22.5, 25.0, [UNWRITTEN]),
    ],
)
def test_a_state_may_be_out_of_date_by_the_bound(number: int, began: float, ended: float, breaches: list[str]) -> None:
    """What was replaced before that is found, and so is what nobody had begun to write."""
    assert found({"p": number}, began, ended) == breaches


@pytest.mark.parametrize(
    ("category", "shown", "began", "breaches"),
    [
        ("books", {"p": 0}, 5.0, []),
        ("books", {}, 5.0, [NOT_LISTED]),
        ("games", {}, 5.0, []),
        ("books", {"p": 0}, 11.5, []),
        ("books", {}, 11.5, []),
        ("games", {}, 11.5, []),
        ("games", {}, 12.5, [NOT_LISTED]),
        ("games", {"p": 1}, 12.5, []),
        ("books", {"p": 0}, 12.5, [STILL_LISTED]),
        ("games", {"p": 1}, 22.5, [STALE]),
    ],
)
def test_a_list_has_what_entered_and_not_what_left(
    category: str, shown: dict[str, int], began: float, breaches: list[str]
) -> None:
    """Within the bound a product that moved may be in either list; after it, in the right one only."""
    assert found(shown, began, began + 0.1, category) == breaches


def test_staleness_is_measured_from_the_acknowledgement_of_the_next_state() -> None:
    """A state that is still the latest is not out of date."""
    played = history()
    played.reads += [Read(13.0, 13.1, {"p": 0}), Read(13.0, 13.1, {"p": 1}), Read(30.0, 30.1, {"p": 2})]
    assert played.staleness() == [2.0, 0.0, 0.0]


def test_a_state_that_was_never_acknowledged_may_be_seen_or_not() -> None:
    """A write that failed in the end may have been done."""
    played = history()
    assert played.products["p"].begin("games", 30.0) == 3
    played.reads += [Read(40.0, 40.1, {"p": 2}), Read(50.0, 50.1, {"p": 3})]
    assert not list(played.breaches(BOUND, BOUND))
    with pytest.raises(RuntimeError, match="still being written"):
        played.products["p"].begin("games", 60.0)
