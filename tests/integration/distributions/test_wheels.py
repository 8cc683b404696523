"""The four wheels hold what they should, and work where nothing of this repository is."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FOLDERS = ("protos", "registry", "client", "services")


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, zipfile.Path]:
    """A wheel of each distribution, built by the packages of .venv from a copy, since building generates in place."""
    sources, built = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheels")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, sources / folder, ignore=shutil.ignore_patterns("build", "__pycache__"))
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-build-isolation", "--no-deps"]
    subprocess.run(
        [*command, "--wheel-dir", str(built), *(str(sources / folder) for folder in FOLDERS)],
        check=True,
        capture_output=True,
        timeout=600,  # a tenth, if nobody else needs the machine
    )
    return {wheel.name.split("-")[0]: zipfile.Path(wheel) for wheel in built.iterdir()}


@pytest.mark.parametrize(
    ("distribution", "package"),
    [
        ("shop_protos", "shop"),
        ("shop_protos", "buf/validate"),
        ("grpc_registry", "grpc_registry"),
        ("grpc_balancer", "grpc_balancer"),
        ("shop_services", "shop_services"),
    ],
)
def test_wheels_are_typed(wheels: dict[str, zipfile.Path], distribution: str, package: str) -> None:
    """A type checker believes the types of every package that we publish."""
    assert (wheels[distribution] / package / "py.typed").exists()


def test_wheels_hold_nothing_but_their_packages(wheels: dict[str, zipfile.Path]) -> None:
    """No test, build script or cache gets into a wheel."""
    expected = {
        "shop_protos": {"shop", "buf"},
        "grpc_registry": {"grpc_registry"},
        "grpc_balancer": {"grpc_balancer"},
        "shop_services": {"shop_services"},
    }
    for distribution, wheel in wheels.items():
        names = {entry.name for entry in wheel.iterdir() if not entry.name.endswith(".dist-info")}
        assert names == expected[distribution]


def test_stubs_work_from_the_wheel(wheels: dict[str, zipfile.Path], tmp_path: Path) -> None:
    """The classes in the wheel import each other and the rules, without the folder they were generated in."""
    with zipfile.ZipFile(str(wheels["shop_protos"]).rstrip("/")) as archive:
        archive.extractall(tmp_path)
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import shop.order.v1.order_pb2_grpc, buf.validate.validate_pb2 as rules\n"
        "assert shop.__file__.startswith(sys.argv[1]) and rules.__file__.startswith(sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-I", "-c", program, str(tmp_path)], check=True, timeout=60, cwd=tmp_path)
