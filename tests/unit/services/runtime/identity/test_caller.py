"""Who calls is known to what runs for the call, and to nothing else."""

from __future__ import annotations

import pytest

from shop_services.runtime.identity.caller import ANONYMOUS, Caller, Person, Role, Service, caller, calling, customer_id


@pytest.mark.parametrize(
    ("who", "own", "shown"),
    [
        (ANONYMOUS, None, "anonymous"),
        (Person("u1", Role.CUSTOMER), "u1", "customer:u1"),
        (Person("u1", Role.ADMIN), None, "admin:u1"),
        (Service("order"), None, "service:order"),
    ],
)
def test_a_customer_alone_is_limited_to_their_own(who: Caller, own: str | None, shown: str) -> None:
    """Inside of the block, and no longer."""
    with calling(who):
        assert (caller(), customer_id(), str(who)) == (who, own, shown)
    assert caller() == ANONYMOUS
