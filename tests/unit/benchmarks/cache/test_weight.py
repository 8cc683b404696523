"""What an entry weighs."""

from __future__ import annotations

import gc

from benchmarks.cache.rivals import ours, raw
from benchmarks.cache.weight import bare, weigh


async def test_an_entry_weighs_more_than_its_key_and_value() -> None:
    """With its books an entry of ours weighs more than the bare cache's, and that more than key and value alone."""
    own = await weigh(lambda: ours("lru", 500), 500, evicts=True)
    theirs = await weigh(lambda: raw("lru", 500), 500, evicts=False)
    assert bare() < theirs.filled < own.filled < 10 * bare()
    assert theirs.refilled is None
    assert own.refilled is not None
    assert own.refilled > bare()
    assert gc.isenabled()
