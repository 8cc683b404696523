"""Page tokens continue a list, the same list, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_services.runtime.errors import InvalidArgument
from shop_services.runtime.paging import MAX_PAGE_BYTES, Cursor, Page, make_page, make_token, page_size, read_token

QUERY = {"list": "products", "category": "tea"}

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
times = st.datetimes(timezones=st.just(UTC))
cursors = st.lists(texts | st.integers(-(2**63), 2**63 - 1) | times, min_size=1, max_size=3).map(tuple)


def _refused(token: str, query: dict[str, str] = QUERY, kinds: tuple[type, ...] = (str, int)) -> None:
    with pytest.raises(InvalidArgument) as caught:
        read_token(token, query, kinds)
    assert [path for path, _ in caught.value.violations] == ["page_token"]


@given(cursors)
def test_a_token_gives_its_cursor_back(cursor: Cursor) -> None:
    """Whatever the sort key is made of."""
    kinds = tuple(type(part) for part in cursor)
    assert read_token(make_token(cursor, QUERY), QUERY, kinds) == cursor


def test_no_token_asks_for_the_first_page() -> None:
    """The empty token has no cursor."""
    assert read_token("", QUERY, (str,)) is None


def test_a_token_belongs_to_its_query() -> None:
    """Made for one category, or another list, it is refused for the other."""
    token = make_token(("a", 1), QUERY)
    _refused(token, {"list": "products", "category": "coffee"})
    _refused(token, {"list": "products"})


def test_a_changed_token_is_refused() -> None:
    """Whichever character is changed, and however; the last one holds bits that mean nothing."""
    token = make_token(("2026-01-01T00:00:00+00:00", 7), QUERY)
    assert "_" in token  # which has another spelling in base64's first alphabet
    for at, was in enumerate(token[:-1]):
        for character in map(chr, range(256)):
            if character != was:
                _refused(token[:at] + character + token[at + 1 :])


@given(st.text(min_size=1, max_size=60) | st.text("abcdefghijklmnopqrstuvwxyzABC0123456789-_", min_size=1))
def test_garbage_is_refused(token: str) -> None:
    """Anything that is no token of ours is an invalid argument, never a crash."""
    _refused(token)


def test_a_token_with_other_parts_is_refused() -> None:
    """Its parts must be of the kinds that the list sorts by."""
    _refused(make_token(("a",), QUERY))
    _refused(make_token((1, "a"), QUERY))
    _refused(make_token(("a", True), QUERY))


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        (2**63, int),
        (-(2**63) - 1, int),
        ("a\0b", str),
        ("\ud800", str),
        ("yesterday", datetime),
        ("2026-01-01", datetime),
        (7, datetime),
    ],
)
def test_a_made_up_cursor_that_no_database_could_take_is_refused(part: str | int, kind: type) -> None:
    """Whoever knows how tokens are made gets no further than an invalid argument."""
    _refused(make_token((part,), QUERY), kinds=(kind,))


def test_a_huge_token_is_refused_unread() -> None:
    """1,024 characters are the most."""
    _refused(make_token(("a" * 1000, 1), QUERY))


def test_page_sizes_have_a_default_and_a_limit() -> None:
    """0 means 50; 1,000 is the most."""
    assert [page_size(n) for n in (0, 1, 1000)] == [50, 1, 1000]
    for wrong in (-1, 1001):
        with pytest.raises(InvalidArgument) as caught:
            page_size(wrong)
        assert caught.value.violations[0][0] == "page_size"


@given(st.lists(st.integers(-(2**63), 2**63 - 1), unique=True).map(sorted), st.integers(1, 7))
def test_pages_together_are_the_list(items: list[int], size: int) -> None:
    """Following the tokens shows each item once, in order, and then ends."""
    seen: list[int] = []
    token = ""
    for _ in range(len(items) + 1):
        cursor = read_token(token, QUERY, (int,))
        rest = [item for item in items if cursor is None or item > cursor[0]]
        page: Page[int] = make_page(rest[: size + 1], size, QUERY, lambda item: (item,), lambda item: 1)
        assert len(page.items) <= size
        seen += page.items
        if not (token := page.next_token):
            break
    assert (seen, token) == (items, "")


@pytest.mark.parametrize(("weight", "fitting"), [(MAX_PAGE_BYTES // 4, 4), (MAX_PAGE_BYTES + 1, 1)])
def test_a_page_that_would_be_too_large_ends_early(weight: int, fitting: int) -> None:
    """It holds what fits into a message, one item at least, and a token for the rest."""
    page: Page[int] = make_page(list(range(10)), 10, QUERY, lambda item: (item,), lambda item: weight)
    assert page.items == tuple(range(fitting))
    assert read_token(page.next_token, QUERY, (int,)) == (fitting - 1,)
