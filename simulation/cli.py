"""The command line: `buildscripts/simulate [SCENARIO…] [--policy P…] [--seed S] [--out DIR]`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from grpc_balancer.pickers import policies
from simulation.measure import Result
from simulation.page import as_html, as_json, table
from simulation.play import play
from simulation.production import FEATURES, Variant, variant_named
from simulation.scenarios import SCENARIOS, Scenario, scenario_named


def main(arguments: list[str] | None = None) -> int:
    """Play what is asked for; print a table for each scenario as it ends. Returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        scenarios = [scenario_named(name) for name in options.scenarios] or list(SCENARIOS)
        variants = [variant_named(name) for name in options.policy]
    except ValueError as error:
        print(f"simulate: {error}", file=sys.stderr)
        return 2
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    played = []
    for scenario in scenarios:
        print(f"{scenario.name}: {scenario.told}", flush=True)
        results = [
            _play(scenario, variant, options.seed) for variant in variants or map(variant_named, scenario.compared)
        ]
        print(f"{table(results)}\n", flush=True)
        played.append((scenario, results))
    (out / "results.json").write_text(as_json([result for _, results in played for result in results]))
    (out / "index.html").write_text(as_html(played, options.seed))
    print(f"charts: {out / 'index.html'}   numbers: {out / 'results.json'}")
    return 0


def _play(scenario: Scenario, variant: Variant, seed: int) -> Result:
    begun = time.perf_counter()
    result = play(scenario, variant, seed)
    print(f"  {variant.name}: {result.calls:,} calls in {time.perf_counter() - begun:.1f} s", file=sys.stderr)
    return result


def _parser() -> argparse.ArgumentParser:
    scenarios = "\n".join(f"  {scenario.name:16} {scenario.told}" for scenario in SCENARIOS)
    features = "\n".join(f"  {name:16} {told}" for name, told in FEATURES.items())
    parser = argparse.ArgumentParser(
        prog="buildscripts/simulate",
        description="Compares policies on simulated servers, in virtual time. Without SCENARIO it plays all.",
        epilog=f"scenarios:\n{scenarios}\n\npolicies: {', '.join(policies())}\n\n"
        f"features, added to a policy like least_outstanding+outlier:\n{features}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="which to play (default: all)")
    parser.add_argument(
        "--policy", nargs="+", default=[], metavar="P", help="what to compare (default: see each scenario)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="S", help="the same seed gives the same results (default: 1)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("build/simulation"),
        metavar="DIR",
        help="for the page and the numbers (default: %(default)s)",
    )
    return parser
