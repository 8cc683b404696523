"""What an owner does about its key."""

from __future__ import annotations

from dataclasses import replace

import pytest

from grpc_registry import Instance, InvalidInstance, State
from grpc_registry.etcd.kv import KeyValue
from grpc_registry.etcd.naming import encode
from grpc_registry.etcd.ownership import Desired, Keep, Write, settle

MINE = Instance("s", "h:1", id="a", zone="z1", metadata={"color": "red"})
OLD, NOW, FOREIGN = 10, 11, 99


def seen(instance: Instance, lease: int, revision: int = 5) -> KeyValue:
    return KeyValue(b"mesh/s/a", encode(instance), revision, lease)


def test_a_missing_key_is_written() -> None:
    """First registration, a lost lease and a deletion by hand look the same: there is nothing, so write."""
    assert settle(Desired(MINE), None, lease=NOW, leases={OLD}) == Write(MINE, seen=0)


def test_a_key_as_it_should_be_is_kept() -> None:
    """What is there under the present lease is not written again."""
    assert settle(Desired(MINE), seen(MINE, NOW), lease=NOW, leases={NOW}) == Keep(MINE)


def test_a_new_lease_takes_the_key_over_from_the_old_one() -> None:
    """A key that still hangs on a lost lease is written, unchanged, under the present one."""
    assert settle(Desired(MINE), seen(MINE, OLD), lease=NOW, leases={OLD}) == Write(MINE, seen=5)


@pytest.mark.parametrize("lease", [OLD, NOW, 0])
def test_an_edit_from_outside_is_adopted(lease: int) -> None:
    """Weight, state and metadata belong to the operator, under our leases or detached from them by hand."""
    edited = replace(MINE, weight=7, state=State.DRAINING, metadata={"canary": True})
    decision = settle(Desired(MINE), seen(edited, lease), lease=NOW, leases={OLD, NOW})
    assert decision == (Keep(edited) if lease == NOW else Write(edited, seen=5))


def test_facts_are_not_adopted() -> None:
    """An address or a zone that was changed from outside is put right; a weight changed with it stays."""
    edited = replace(MINE, address="elsewhere:1", zone="z2", version="9", host="h9", weight=7)
    decision = settle(Desired(MINE), seen(edited, NOW), lease=NOW, leases={NOW})
    assert decision == Write(replace(MINE, weight=7), seen=5)


def test_what_the_owner_changed_meanwhile_wins_over_an_edit() -> None:
    """A change made here that is not written yet is kept, field by field."""
    desired = Desired(MINE).changed(weight=50, state=None)
    edited = replace(MINE, weight=7, state=State.DRAINING)
    decision = settle(desired, seen(edited, NOW), lease=NOW, leases={NOW})
    assert decision == Write(replace(MINE, weight=50, state=State.DRAINING), seen=5)


@pytest.mark.parametrize("lease", [FOREIGN, 0])
def test_an_earlier_life_is_not_adopted(lease: int) -> None:
    """What another process left under the same id, draining when it died, does not make us drain."""
    left = replace(MINE, state=State.DRAINING, weight=1)
    assert settle(Desired(MINE), seen(left, lease), lease=NOW, leases=set()) == Write(MINE, seen=5)


def test_a_rival_is_named() -> None:
    """An id that someone else uses at another address is taken over, and whose it was is told."""
    rival = replace(MINE, address="rival:1")
    assert settle(Desired(MINE), seen(rival, FOREIGN), lease=NOW, leases={NOW}) == Write(MINE, seen=5, rival="rival:1")


def test_garbage_is_overwritten() -> None:
    """A value of ours that somebody garbled is put right."""
    garbled = KeyValue(b"mesh/s/a", b"{", 5, NOW)
    assert settle(Desired(MINE), garbled, lease=NOW, leases={NOW}) == Write(MINE, seen=5)


def test_a_bad_change_changes_nothing() -> None:
    """A weight that breaks the contract is refused before anything is noted."""
    desired = Desired(MINE)
    with pytest.raises(InvalidInstance, match="weight 0"):
        desired.changed(weight=0, state=None)
    assert desired == Desired(MINE)
