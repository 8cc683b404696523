"""Pending states: what each may replace, and what is left to do for it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_services.product.domain import Product
from shop_services.product.pending import Pending, Step, step
from shop_services.product.pending_messages import Unreadable, Written, dump, dump_note, load, load_note
from shop_services.runtime.money import Money
from shop_services.storage import KeptReply

NOW = datetime(2026, 1, 1, 12, 30, 15, 123456, tzinfo=UTC)
ROW = Product("p1", "PEN", "Pen", "Writes.\n✒", "office", Money("EUR", 1234), NOW, NOW, 3, 7)


def _reply(number: int) -> KeptReply:
    return KeptReply("shop.product.v1.UpdateProductRequest", f"r{number}", b"\0\xff", b"reply", NOW)


def _after(state: Pending, revision: int, reply: int = 0, *, deleted: bool = False) -> Pending:
    product = replace(state.product, name=f"Pen {revision}", revision=revision)
    return state.then(product, deleted=deleted, reply=_reply(reply) if reply else None)


def test_a_state_replaces_all_that_it_came_from() -> None:
    """Each of them may be what the database has when the state is written."""
    state = _after(_after(_after(Pending.of(ROW), -1), -2), -3)
    assert state.replaces == (7, -1, -2)
    assert state.product.revision == -3


def test_replies_come_along() -> None:
    """The latest state carries the replies to all requests that led to it."""
    state = _after(_after(Pending.of(ROW), -1, 1), -2, 2)
    assert state.replies == (_reply(1), _reply(2))


def test_what_changes_nothing_only_adds_its_reply() -> None:
    """The state keeps its revision, and so its etag."""
    state = _after(Pending.of(ROW), -1, 1)
    again = state.then(state.product, deleted=False, reply=_reply(2))
    assert again == replace(state, replies=(_reply(1), _reply(2)))
    assert state.then(state.product, deleted=False, reply=None) == state


def test_what_was_written_is_left_out() -> None:
    """States before the one that was written can no longer be in the database, and its replies are there."""
    written = _after(_after(Pending.of(ROW), -1, 1), -2, 2)
    later = _after(_after(written, -3, 3), -4, 4)
    assert later.since(written).replaces == (-2, -3)
    assert later.since(written).replies == (_reply(3), _reply(4))
    assert written.since(written) == Pending(written.product)


def test_what_was_written_of_another_chain_cuts_nothing() -> None:
    """A state that began from the row since then keeps all that it may replace."""
    state = _after(_after(Pending.of(ROW), -1), -2)
    assert state.since(_after(Pending.of(replace(ROW, revision=2)), -9)) == state


@pytest.mark.parametrize(
    ("revision", "expected"),
    [
        (7, Step.UPDATE),
        (-1, Step.UPDATE),
        (-2, Step.IN_PLACE),
        (8, Step.OVERTAKEN),
        (None, Step.OVERTAKEN),
    ],
)
def test_an_update_is_written_over_what_it_replaces_alone(revision: int | None, expected: Step) -> None:
    """Nothing else: not a later state, not what was deleted, and not itself."""
    state = _after(_after(Pending.of(ROW), -1), -2)
    assert step(state, None if revision is None else replace(ROW, revision=revision)) is expected


@pytest.mark.parametrize(
    ("revision", "expected"),
    [(7, Step.DELETE), (-1, Step.DELETE), (-2, Step.OVERTAKEN), (8, Step.OVERTAKEN), (None, Step.IN_PLACE)],
)
def test_a_deletion_deletes_what_it_replaces_alone(revision: int | None, expected: Step) -> None:
    """Where there is no row, it is done."""
    state = _after(_after(Pending.of(ROW), -1), -2, deleted=True)
    assert step(state, None if revision is None else replace(ROW, revision=revision)) is expected


@given(st.lists(st.sampled_from(["change", "write old", "write new"]), max_size=12))
def test_whoever_writes_late_changes_nothing(actions: list[str]) -> None:
    """However old states and the latest are written, again and again, the row only moves forward along the chain."""
    row, states = ROW, [Pending.of(ROW)]
    written = 0
    for number, action in enumerate(actions):
        if action == "change":
            states.append(_after(states[-1], -1 - number))
            continue
        for index in range(len(states)) if action == "write old" else [len(states) - 1]:
            if step(states[index], row) is Step.UPDATE:
                assert index > written
                row, written = states[index].product, index
    if step(states[-1], row) is Step.UPDATE:
        row = states[-1].product
    assert row == states[-1].product


@pytest.mark.parametrize(
    "state",
    [
        Pending.of(ROW),
        _after(_after(Pending.of(ROW), -(2**62), 1), -2, 2),
        _after(Pending.of(replace(ROW, description="")), -5, deleted=True),
    ],
)
def test_a_state_comes_back_as_it_was_put(state: Pending) -> None:
    """To the microsecond, the hundredth and the last reply."""
    assert load(dump(state)) == state


def test_a_note_comes_back_as_it_was_left() -> None:
    """With categories, or without."""
    for categories in (frozenset({"office", "gifts"}), None):
        note = Written(12, categories, -(2**62), deleted=True, in_place=True)
        assert load_note(dump_note(note)) == note


def test_a_mark_says_that_nothing_is_in_place() -> None:
    """What claims a product in the log leaves an empty note."""
    assert load_note(b"") == Written(0, None, 0, deleted=False, in_place=False)


def test_a_record_of_another_kind_is_told() -> None:
    """Garbage, and a message without what a product needs."""
    for record in (b"\xff\xff", b""):
        with pytest.raises(Unreadable):
            load(record)
