"""The import rules of pyproject.toml catch what they are there to catch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

PACKAGES = (
    "grpc_registry/etcd",
    "grpc_balancer",
    "shop_services/runtime",
    "shop_services/user",
    "shop_services/product",
)


def lint(root: Path, module: str, statement: str) -> subprocess.CompletedProcess[str]:
    """Run import-linter, with this project's rules, on a skeleton of its packages where `module` says `statement`."""
    for package in PACKAGES:
        (root / package).mkdir(parents=True)
        for folder in (root / package, (root / package).parent):
            if folder != root:
                (folder / "__init__.py").touch()
    (root / f"{module}.py").write_text(statement)
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"]
    return subprocess.run(
        [*command, "--config", str(ROOT / "pyproject.toml")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root)},
    )


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("grpc_balancer/channel", "import grpc_registry"),
        ("grpc_registry/url", "import grpc_registry.etcd"),
        ("shop_services/user/servicer", "import grpc_balancer, grpc_registry, shop.user.v1.user_pb2"),
        ("shop_services/user/wiring", "import shop_services.runtime"),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, module: str, statement: str) -> None:
    """Imports along services → client → registry, and of the protos by a service, are fine."""
    result = lint(tmp_path, module, statement)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("grpc_registry/url", "import grpc_balancer"),
        ("grpc_balancer/channel", "import shop_services"),
        ("grpc_balancer/channel", "import shop.user.v1.user_pb2"),
        ("grpc_registry/url", "import shop.user.v1.user_pb2"),
        ("grpc_balancer/channel", "import grpc_registry.etcd"),
        ("shop_services/user/servicer", "import grpc_registry.etcd"),
        ("shop_services/user/servicer", "import shop_services.product"),
        ("shop_services/runtime/server", "import shop_services.user"),
    ],
)
def test_what_is_forbidden_is_named(tmp_path: Path, module: str, statement: str) -> None:
    """Each import against the rules fails the lint, and the output names the module that does it."""
    result = lint(tmp_path, module, statement)
    assert result.returncode == 1
    assert f"{module.replace('/', '.')} -> " in result.stdout
