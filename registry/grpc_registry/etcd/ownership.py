"""What an owner must do about its key, given what it finds there. Pure: the one place where edits meet re-registration.

An owner looks at its key when it gets a lease and whenever something happened to the key, and each time decides anew
from what is there. So every story (first registration, a lost lease, a deletion or an edit by hand, an outage in
between) is the same few cases.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

from grpc_registry.errors import InvalidInstance
from grpc_registry.etcd.kv import KeyValue
from grpc_registry.etcd.naming import decode
from grpc_registry.instance import Instance, State


@dataclass(frozen=True, slots=True)
class Desired:
    """The instance as its owner wants it; `unwritten` names the fields it changed and did not yet write."""

    instance: Instance
    unwritten: frozenset[str] = frozenset()

    def changed(self, *, weight: int | None, state: State | None) -> Desired:
        """With other values; raises `InvalidInstance` if they break the contract."""
        instance, unwritten = self.instance, self.unwritten
        if weight is not None:
            instance, unwritten = replace(instance, weight=weight), unwritten | {"weight"}
        if state is not None:
            instance, unwritten = replace(instance, state=state), unwritten | {"state"}
        return Desired(instance, unwritten)


@dataclass(frozen=True, slots=True)
class Keep:
    """The key is as it should be."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class Write:
    """The key must be written, if its mod_revision is still `seen`; `rival` is the address of another owner, if any."""

    instance: Instance
    seen: int
    rival: str = ""


def settle(desired: Desired, seen: KeyValue | None, *, lease: int, leases: AbstractSet[int]) -> Keep | Write:
    """Compare `desired` with what was `seen` at the key; `leases` are those that we (may) have written it under.

    - Nothing there: write.
    - Ours (under a lease of ours, or under none after we once wrote it, which is what a careless edit by hand leaves):
      weight, state and metadata are the operator's to change, so they are adopted, except what the owner changed too.
      Address, zone, version and host are facts that only the owner knows. Then keep it, or write it if that leaves a
      difference or the lease is not the present one.
    - Someone else's: what it says is not about us (an earlier life with the same id may have died draining), so write.
    """
    if seen is None:
        return Write(desired.instance, seen=0)
    try:
        found = decode(desired.instance.service, desired.instance.id, seen.value).instance
    except InvalidInstance:
        return Write(desired.instance, seen=seen.mod_revision)
    if seen.lease not in leases and (seen.lease or not leases):
        rival = found.address if found.address != desired.instance.address else ""
        return Write(desired.instance, seen=seen.mod_revision, rival=rival)
    adopted = replace(
        desired.instance,
        weight=desired.instance.weight if "weight" in desired.unwritten else found.weight,
        state=desired.instance.state if "state" in desired.unwritten else found.state,
        metadata=found.metadata,
    )
    if adopted == found and seen.lease == lease:
        return Keep(adopted)
    return Write(adopted, seen=seen.mod_revision)
