"""A process that serves looks for garbage seldom, and not at what it began with; what is garbage still goes."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref
from collections.abc import Iterator

import pytest

from shop_services.runtime import collecting


class _Node:
    """Something that can be garbage only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_what_is_there_is_never_looked_at_again() -> None:
    """All that lives is out of the collector's sight, and it looks as seldom as it was told."""
    collecting.settle()
    assert gc.get_threshold() == collecting.THRESHOLDS
    assert gc.get_freeze_count() > 10_000
    assert len(gc.get_objects()) < 1_000


def test_garbage_of_before_is_not_kept() -> None:
    """It is freed first."""
    node = _Node()
    gone = weakref.ref(node)
    del node
    collecting.settle()
    assert gone() is None


def test_garbage_of_later_goes_by_itself() -> None:
    """After no more objects than the thresholds say."""
    collecting.settle()
    node = _Node()
    gone = weakref.ref(node)
    del node
    more: list[list[int]] = [[] for _ in range(collecting.THRESHOLDS[0] + 1_000)]
    assert gone() is None
    assert more


def test_a_service_begins_so() -> None:
    """Every process that is run does: here one that ends at once, as its settings are wrong."""
    program = (
        "import gc, json, sys\n"
        "from shop_services.runtime.serve import run_process\n"
        "status = run_process('user', lambda settings: None)\n"
        "print(json.dumps([status, gc.get_threshold(), gc.get_freeze_count() > 10_000]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        env={"REGISTRY_URL": "nonsense://", "SHOP_PORT": "x"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert json.loads(run.stdout) == [2, list(collecting.THRESHOLDS), True], run.stderr
