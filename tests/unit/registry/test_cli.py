"""`meshctl`, over a registry in memory."""

from __future__ import annotations

import io
import json
import secrets
from importlib.metadata import version
from pathlib import Path

import pytest

from grpc_registry import Instance, State, memory
from grpc_registry.cli import differences, main
from grpc_registry.memory import MemorySpace


@pytest.fixture
def name() -> str:
    return secrets.token_hex(4)


@pytest.fixture
def space(name: str) -> MemorySpace:
    """A space with three instances of two services."""
    made = memory.space(name)
    made.put(Instance("product", "10.0.0.1:50051", id="3fa1", zone="a", version="1.4.0"))
    made.put(Instance("product", "10.0.0.2:50051", id="3fb2", weight=50, state=State.DRAINING))
    made.put(Instance("order", "10.0.0.3:50051", id="77"))
    return made


@pytest.fixture
def environ(name: str, space: MemorySpace) -> dict[str, str]:
    return {"REGISTRY_URL": f"memory://{name}"}


def test_ls_is_an_aligned_table(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """Columns line up, numbers to the right, and what is not known is a dash."""
    assert main(["ls"], environ) == 0
    assert capsys.readouterr().out == (
        "SERVICE  ID    ADDRESS         WEIGHT  STATE     ZONE  VERSION  LEASE TTL\n"
        "order    77    10.0.0.3:50051     100  serving   -     -                0\n"
        "product  3fa1  10.0.0.1:50051     100  serving   a     1.4.0            0\n"
        "product  3fb2  10.0.0.2:50051      50  draining  -     -                0\n"
    )


def test_ls_of_one_service_as_json(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """The array has the fields that the contract names, in its order."""
    assert main(["ls", "order", "-o", "json"], environ) == 0
    [row] = json.loads(capsys.readouterr().out)
    assert list(row.items()) == [
        ("service", "order"),
        ("id", "77"),
        ("address", "10.0.0.3:50051"),
        ("weight", 100),
        ("state", "serving"),
        ("zone", ""),
        ("version", ""),
        ("lease_ttl", 0),
    ]


def test_nothing_registered_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty registry lists as a heading alone, and as an empty array."""
    environ = {"REGISTRY_URL": f"memory://{secrets.token_hex(4)}"}
    assert main(["ls"], environ) == 0
    assert main(["ls", "-o", "json"], environ) == 0
    heading, array = capsys.readouterr().out.splitlines()
    assert heading.startswith("SERVICE")
    assert array == "[]"


@pytest.mark.parametrize(
    ("arguments", "instance_id", "weight", "state"),
    [
        (["weight", "product", "3fa1", "7"], "3fa1", 7, State.SERVING),
        (["weight", "product", "3fa", "7"], "3fa1", 7, State.SERVING),
        (["drain", "product", "3fa1"], "3fa1", 100, State.DRAINING),
        (["undrain", "product", "3fb2"], "3fb2", 50, State.SERVING),
    ],
)
def test_instances_are_edited(
    arguments: list[str],
    instance_id: str,
    weight: int,
    state: State,
    environ: dict[str, str],
    space: MemorySpace,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each command changes its field of the instance that the id, or its unique beginning, names, and says so."""
    assert main(arguments, environ) == 0
    instance = space.entries["product", instance_id].instance
    assert (instance.weight, instance.state) == (weight, state)
    assert capsys.readouterr().out == f"product/{instance_id}: weight {weight}, {state}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["drain", "product", "9"], "meshctl: no instance '9' of 'product' is registered\n"),
        (["drain", "nobody", "3fa1"], "meshctl: no instance '3fa1' of 'nobody' is registered\n"),
        (["drain", "product", "3f"], "meshctl: '3f' begins several ids of 'product': 3fa1, 3fb2\n"),
    ],
)
def test_an_unknown_instance_is_status_3(
    arguments: list[str], message: str, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is changed, and one line on stderr says what is wrong."""
    assert main(arguments, environ) == 3
    assert capsys.readouterr().err == message


def test_an_unreachable_registry_is_status_1(
    environ: dict[str, str], space: MemorySpace, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on stderr says why."""
    space.go_away("maintenance")
    assert main(["ls"], environ) == 1
    assert capsys.readouterr().err == "meshctl: maintenance\n"


@pytest.mark.parametrize(
    ("arguments", "environ", "message"),
    [
        (["ls"], {"REGISTRY_URL": "etcd://h:x"}, "meshctl: REGISTRY_URL: the port of member 1 (h) is not"),
        (["--registry", "etcd://h:x", "ls"], {"REGISTRY_URL": "memory://"}, "meshctl: --registry: the port of"),
    ],
)
def test_a_wrong_url_is_status_2_and_says_where_it_came_from(
    arguments: list[str], environ: dict[str, str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A setting that cannot be used is refused with the name of the variable or the option."""
    assert main(arguments, environ) == 2
    assert capsys.readouterr().err.startswith(message)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["weight", "product", "3fa1", "0"],
        ["weight", "product", "3fa1", "x"],
        ["?"],
        ["ls", "a/b"],
        ["config"],
        ["config", "get"],
        ["config", "get", "a/b"],
        ["config", "set", "product"],
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str], environ: dict[str, str]) -> None:
    """Arguments that make no sense are refused before the registry is asked."""
    with pytest.raises(SystemExit) as caught:
        main(arguments, environ)
    assert caught.value.code == 2


@pytest.mark.parametrize("command", [["drain"], ["undrain"], ["weight"]])
def test_an_empty_id_is_nobodys(command: list[str], environ: dict[str, str], space: MemorySpace) -> None:
    """An unset variable in a script does not drain the one instance there is, of which it would be a beginning."""
    with pytest.raises(SystemExit) as caught:
        main([*command, "order", "", *(["7"] if command == ["weight"] else [])], environ)
    assert caught.value.code == 2
    instance = space.entries["order", "77"].instance
    assert (instance.state, instance.weight) == (State.SERVING, 100)


CONFIG = '{"methodConfig": [{"name": [{}], "timeout": "1.5s"}]}'


def test_a_config_comes_from_a_file_from_stdin_or_from_the_command_line(
    environ: dict[str, str],
    space: MemorySpace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """However it is given, it is stored to the letter, and printed by `get` as it is stored."""
    file = tmp_path / "product.json"
    for source, text in ((str(file), f"{CONFIG}\n"), ("-", f" {CONFIG}"), (CONFIG, CONFIG)):
        file.write_text(text)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        space.configs.clear()
        assert main(["config", "set", "product", source], environ) == 0
        assert space.configs == {"product": text}
        assert capsys.readouterr().out == "product: service config set\n"
        assert main(["config", "get", "product"], environ) == 0
        assert capsys.readouterr().out == f"{text.rstrip()}\n"


def test_a_config_is_removed(environ: dict[str, str], space: MemorySpace, capsys: pytest.CaptureFixture[str]) -> None:
    """`rm` removes it and says so; afterwards neither `get` nor `rm` finds one, which is status 3."""
    space.put_config("product", CONFIG)
    assert main(["config", "rm", "product"], environ) == 0
    assert capsys.readouterr().out == "product: service config removed\n"
    for command in ("get", "rm"):
        assert main(["config", command, "product"], environ) == 3
        assert capsys.readouterr() == ("", "meshctl: 'product' has no service config\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"methodConfig": [{"retryPolicy": {"maxAttempts": 1}}]}',
            "methodConfig[0].retryPolicy.maxAttempts: must be an integer of at least 2, not 1",
        ),
        ('{"loadBalancingConfig": [{"nearest": {}}]}', "loadBalancingConfig: must be a list with a known policy ("),
        ("{", "service config: is not JSON: "),
        ("[]", "[]: No such file or directory; FILE is a file, '-', or a JSON object '{...}'"),
    ],
)
def test_an_invalid_config_is_status_2_and_nothing_is_written(
    text: str, message: str, environ: dict[str, str], space: MemorySpace, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on stderr begins with the JSON path of what is wrong; what was in force stays in force."""
    space.put_config("product", CONFIG)
    assert main(["config", "set", "product", text], environ) == 2
    out, errors = capsys.readouterr()
    assert (out, errors.count("\n")) == ("", 1)
    assert errors.startswith(f"meshctl: {message}")
    assert space.configs == {"product": CONFIG}


def test_policies_of_ones_own_are_allowed_by_name(environ: dict[str, str], space: MemorySpace) -> None:
    """Each `--allow-policy` adds a name to those that are known."""
    for name in ("nearest", "cheapest", "round_robin"):
        text = f'{{"loadBalancingConfig": [{{"{name}": {{}}}}]}}'
        allowed = ["--allow-policy", "nearest", "--allow-policy", "cheapest"]
        assert main(["config", "set", "product", text, *allowed], environ) == 0
        assert space.configs == {"product": text}


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        (CONFIG, []),
        ('{"methodConfg": []}', ["methodConfg: is no known field"]),
        ('{"methodConfig": [{"timeOut": "1s"}, {}], "x": 1}', ["x: is no", "methodConfig[0].timeOut: is no"]),
        ('{"loadBalancingConfig": [{"ring_hash": {}}]}', ["ring_hash without requestHashHeader: each call"]),
        ('{"loadBalancingConfig": [{"ring_hash": {"requestHashHeader": "x-user"}}]}', []),
    ],
)
def test_what_is_hardly_meant_is_warned_of(
    text: str, warnings: list[str], environ: dict[str, str], space: MemorySpace, capsys: pytest.CaptureFixture[str]
) -> None:
    """A config with a mistyped field, or a hash of nothing, is set, since it is valid, and a line says what is odd."""
    assert main(["config", "set", "product", text], environ) == 0
    assert space.configs == {"product": text}
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(warnings)
    assert all(line.startswith(f"meshctl: warning: {start}") for line, start in zip(lines, warnings, strict=True))


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    """`meshctl --version` prints it and ends."""
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"meshctl {version('grpc-registry')}\n"


def test_a_file_that_cannot_be_read_is_status_2(
    environ: dict[str, str], space: MemorySpace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line says which file and why, and nothing is written."""
    missing, binary = tmp_path / "missing.json", tmp_path / "binary.json"
    binary.write_bytes(b'{"a": "\xff"}')
    for file, reason in (
        (missing, "No such file or directory; FILE is a file, '-', or a JSON object '{...}'"),
        (binary, "is not UTF-8: invalid start byte at byte 7"),
    ):
        assert main(["config", "set", "product", str(file)], environ) == 2
        assert capsys.readouterr().err == f"meshctl: {file}: {reason}\n"
    assert space.configs == {}


def test_differences_between_snapshots() -> None:
    """Removed, added and changed instances are told apart; what is the same is not mentioned."""
    a, b, c = (Instance("s", "h:1", id=i) for i in "abc")
    heavy = Instance("s", "h:1", id="b", weight=7)
    assert list(differences([a, b, c], [heavy, c])) == [("removed", a), ("changed", heavy)]
    assert list(differences([], [a])) == [("added", a)]
