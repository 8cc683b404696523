"""Runs for the gates: small versions of the scenarios, each played once however many tests look at it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

from simulation.measure import Result
from simulation.play import play
from simulation.production import variant_named
from simulation.scenarios import scenario_named

SEED = 7


def run_anew(scenario: str, variant: str, seed: int = SEED, **smaller: Any) -> Result:
    """Play that scenario, with these fields replaced."""
    return play(replace(scenario_named(scenario), **smaller), variant_named(variant), seed)


run = cache(run_anew)
"""As `run_anew`, but played only once."""
