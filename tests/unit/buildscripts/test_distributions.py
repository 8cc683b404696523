"""The four distributions and the pins say the same about versions."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[3]
FOLDERS = ("protos", "registry", "client", "services")
# `packages_distributions` does not see the modules of an editable install.
OWN = {
    "shop": {"shop-protos"},
    "buf": {"shop-protos"},
    "grpc_registry": {"grpc-registry"},
    "grpc_balancer": {"grpc-balancer"},
}
PACKAGES = {"registry": "grpc_registry", "client": "grpc_balancer", "services": "shop_services"}


def read(folder: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text())


def pins() -> dict[str, Version]:
    lines = (ROOT / "buildscripts/pins.txt").read_text().splitlines()
    names_and_versions = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in names_and_versions}


def own() -> dict[str, Version]:
    projects = [read(folder)["project"] for folder in FOLDERS]
    return {canonicalize_name(project["name"]): Version(project["version"]) for project in projects}


def test_pins_are_names_with_exact_versions() -> None:
    """Every line of the pins is `name==version`, with no address, path or option, and no name twice."""
    lines = [line for line in (ROOT / "buildscripts/pins.txt").read_text().splitlines() if not line.startswith("#")]
    for line in lines:
        requirement = Requirement(line)
        assert requirement.url is None
        assert [specifier.operator for specifier in requirement.specifier] == ["=="]
    assert len(pins()) == len(lines)


def test_all_distributions_have_one_version() -> None:
    """The four distributions are released together, under one version."""
    assert len(set(own().values())) == 1


@pytest.mark.parametrize("folder", FOLDERS)
def test_dependencies_are_ranges_that_admit_what_is_pinned(folder: str) -> None:
    """Each dependency has a lower and an upper bound, and the pinned version, or our own, lies between them."""
    project = read(folder)["project"]
    extras = project.get("optional-dependencies", {}).values()
    versions = pins() | own()
    for requirement in map(Requirement, [*project["dependencies"], *(line for extra in extras for line in extra)]):
        assert {specifier.operator for specifier in requirement.specifier} == {">=", "<"}, requirement
        assert versions[canonicalize_name(requirement.name)] in requirement.specifier, requirement


@pytest.mark.parametrize("folder", FOLDERS)
def test_build_requirements_admit_what_is_pinned(folder: str) -> None:
    """A wheel built in isolation is built by what .venv has: the generators at the very versions of the pins."""
    for requirement in map(Requirement, read(folder)["build-system"]["requires"]):
        assert pins()[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def imports(folder: Path) -> Iterator[str]:
    """The top-level names that the modules below `folder` import."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                yield str(node.module).partition(".")[0]


@pytest.mark.parametrize(("folder", "package"), PACKAGES.items())
def test_every_import_is_a_declared_dependency(folder: str, package: str) -> None:
    """What a distribution imports comes with it, and not by luck with something else."""
    project = read(folder)["project"]
    lines = [*project["dependencies"], *chain.from_iterable(project.get("optional-dependencies", {}).values())]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    providers = {name: set(map(canonicalize_name, given)) for name, given in packages_distributions().items()} | OWN
    for name in set(imports(ROOT / folder / package)) - {package} - sys.stdlib_module_names:
        assert declared & providers[name], f"{package} imports {name}, of {providers[name]}, which it does not declare"
