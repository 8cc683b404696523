"""The `shop` command line, as far as it goes without starting anything."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from shop_services import cli
from shop_services.launch.data import DataDirectory

Process = tuple[str, tuple[str, ...], dict[str, str]]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "shop_services.cli", *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["serve", "user", "--port", "http"], "--port: 'http' is not a whole number"),
        (["serve", "user", "--port", "70000"], "--port: must be a port from 0 to 65535"),
        (["serve", "user", "--weight", "0"], "--weight: must be a whole number from 1"),
        (["serve", "user", "--workers", "3", "--port", "65534"], "--port"),
        (["serve", "user", "--workers", "0"], "--workers: '0' is not a whole number from 1"),
        (["serve", "basket"], "SERVICE"),
        (["serve"], "SERVICE"),
        (["worker", "refunds"], "TOPIC"),
        (["worker"], "TOPIC"),
        (["worker", "orders", "--concurrency", "many"], "--concurrency: 'many' is not a whole number"),
        (["worker", "orders", "--concurrency", "-1"], "--concurrency: must be a whole number from 1"),
        (["cache"], "ACTION"),
        (["cache", "stats", "-o", "xml"], "--output"),
        (["up", "--replicas", "many"], "--replicas"),
        (["up", "--port", "-1"], "--port"),
        ([], "COMMAND"),
    ],
)
def test_a_wrong_flag_is_named(arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A flag that cannot be used ends with 2 and an error that names it."""
    try:
        code = cli.main(arguments)
    except SystemExit as exit_:  # argparse's own way
        code = exit_.code  # type: ignore[assignment]
    assert code == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["serve", "user"], ["serve", "user", "--workers", "2"], ["worker", "orders"], ["up"]]
)
def test_a_wrong_variable_is_named_in_one_line(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A variable that cannot be used ends with 2 and one line on stderr that names it, and nothing is started."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOP_WEIGHT", "heavy")
    assert cli.main(command) == 2
    captured = capsys.readouterr()
    assert captured.err == f"shop {command[0]}: SHOP_WEIGHT: 'heavy' is not a whole number\n"
    assert captured.out == ""
    assert not list(tmp_path.iterdir())


def test_asyncios_word_on_ssl_is_dropped_and_no_other(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NATS's client makes asyncio warn at the end of each encrypted connection, though all is well."""
    monkeypatch.setattr(logging.getLogger("asyncio"), "filters", [])
    assert cli.main(["up", "--demo", "--replicas", "1"]) == 2
    for end in ("ssl", "tls"):
        logging.getLogger("asyncio").warning("returning true from eof_received() has no effect when using %s", end)
    assert [record.args for record in caplog.records] == [("tls",)]
    assert capsys.readouterr().err.startswith("shop up: --replicas")


def test_up_refuses_a_data_directory_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`shop up` on a data directory in use ends with 1 and the pid that holds it."""
    with DataDirectory(tmp_path):
        assert cli.main(["up", "--data", str(tmp_path)]) == 1
    assert f"in use by another shop (pid {os.getpid()})" in capsys.readouterr().err


def test_up_refuses_a_data_directory_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`shop up --data FILE` ends with 1 and the path."""
    (tmp_path / "file").touch()
    assert cli.main(["up", "--data", str(tmp_path / "file")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_the_demo_needs_two_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    """`shop up --demo --replicas 1` ends with 2 before anything is started: the demo kills an instance."""
    assert cli.main(["up", "--demo", "--replicas", "1"]) == 2
    assert capsys.readouterr().err.startswith("shop up: --replicas: must be 2 or more for --demo")


def test_help_shows_the_commands() -> None:
    """`shop --help` names the commands and ends with 0."""
    result = run("--help")
    assert result.returncode == 0
    assert "up" in result.stdout
    assert "serve" in result.stdout
    assert "worker" in result.stdout
    assert "dlq" in result.stdout
    assert "mail" in result.stdout
    assert "cache" in result.stdout


def test_loads_no_service() -> None:
    """The command line loads nothing that only services need, since it starts them as processes."""
    script = (
        "import sys, shop_services.cli.command; print({'sqlalchemy', 'starlette', 'protovalidate'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout == "set()\n"


def test_a_slip_in_a_variables_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A SHOP_ variable that sets nothing is warned of, with the one that it resembles, and the command goes on."""
    monkeypatch.setenv("SHOP_WIEGHT", "7")
    monkeypatch.setenv("SHOP_GRACE", "1")
    with DataDirectory(tmp_path):
        assert cli.main(["up", "--data", str(tmp_path)]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == "shop up: SHOP_WIEGHT is not a setting, and ignored; did you mean SHOP_WEIGHT?"
    assert "in use by another shop" in second


def test_ctrl_c_while_it_is_being_imported_ends_it_in_silence(tmp_path: Path) -> None:
    """A Ctrl-C that comes before the command runs ends it as shells expect, and prints no traceback."""
    (tmp_path / "grpc.py").write_text("import time; print('importing', flush=True); time.sleep(60)")
    command = [sys.executable, "-m", "shop_services.cli", "up"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stdout=PIPE, stderr=PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert errors == ""


@pytest.fixture
def became(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """What this process would have become: path, command and variables."""
    became: list[Process] = []

    def execve(path: str, command: tuple[str, ...], variables: dict[str, str]) -> None:
        became.append((path, command, variables))
        raise InterruptedError

    monkeypatch.setattr(os, "execve", execve)
    return became


def test_serve_becomes_the_service(became: list[Process], monkeypatch: pytest.MonkeyPatch) -> None:
    """`shop serve` lets the service take its place, with flags that go before variables."""
    monkeypatch.setenv("SHOP_PORT", "1")
    monkeypatch.setenv("SHOP_ZONE", "a")
    assert cli.main(["serve", "cache", "--port", "50051", "--weight", "7"]) == 1
    ((path, command, variables),) = became
    assert path == sys.executable
    assert command[-1] == "shop_services.cache"
    assert {name: variables[name] for name in ("SHOP_PORT", "SHOP_WEIGHT", "SHOP_ZONE")} == {
        "SHOP_PORT": "50051",
        "SHOP_WEIGHT": "7",
        "SHOP_ZONE": "a",
    }


@pytest.mark.parametrize(
    ("topic", "module"),
    [("payments", ("shop_services.order.worker", "payments")), ("notifications", ("shop_services.notification",))],
)
def test_worker_becomes_the_worker(
    became: list[Process], monkeypatch: pytest.MonkeyPatch, topic: str, module: tuple[str, ...]
) -> None:
    """`shop worker` lets the worker of the topic take its place, with flags that go before variables."""
    monkeypatch.setenv("SHOP_CONCURRENCY", "1")
    assert cli.main(["worker", topic, "--concurrency", "7"]) == 1
    ((_, command, variables),) = became
    assert command[3:] == module
    assert variables["SHOP_CONCURRENCY"] == "7"


def test_a_worker_refuses_a_bus_in_memory(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A worker alone with a bus of its own would wait for ever: `memory://` ends it with 2."""
    monkeypatch.setenv("NATS_URL", "memory://")
    assert cli.main(["worker", "orders"]) == 2
    assert capsys.readouterr().err.startswith("shop worker: NATS_URL: memory://")
