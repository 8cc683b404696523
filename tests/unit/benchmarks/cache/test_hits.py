"""The memory backend and the references, on one trace."""

from __future__ import annotations

from random import Random

import pytest

from benchmarks.cache.hits import compare
from benchmarks.cache.zipf import trace
from shop_services.caching.bounded import POLICIES, Policy


@pytest.mark.parametrize("policy", POLICIES)
async def test_the_memory_backend_hits_as_the_reference_does(policy: Policy) -> None:
    """Every policy has exactly the hits of its reference, of LFU too: both let the longest unused of equals go."""
    found = await compare(policy, 20, trace(200, 4_000, Random(3)))
    assert found.looks == 4_000
    assert 0 < found.ours == found.reference < found.looks
