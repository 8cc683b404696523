"""`shop keys` and `shop token`, on a directory of keys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from shop_services import cli
from shop_services.launch.commands import OWNERS
from shop_services.runtime.identity.authority import Authority, bearer
from shop_services.runtime.identity.caller import Person, Role
from shop_services.runtime.identity.directory import KeyDirectory
from shop_services.runtime.identity.keys import IDENTITY, KNOWN_AFTER, SETTLED_AFTER
from shop_services.runtime.settings import Settings

NOW = 1_795_415_105.0
"""2026-11-23, 06:25:05 in UTC."""

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of the shop's data, which is not there yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOP_DATA", str(tmp_path / "data"))
    yield tmp_path / "data"
    structlog.reset_defaults()  # `shop cache` says itself what fails


def keys_at(data: Path, now: float) -> KeyDirectory:
    return KeyDirectory(data / "keys", clock=lambda: now)


def told(capsys: Captured, *arguments: str) -> list[str]:
    """The lines that a command prints, which succeeds."""
    assert cli.main(arguments) == 0
    return capsys.readouterr().out.splitlines()


def test_init_makes_what_is_missing(data: Path, capsys: Captured) -> None:
    """A key of everybody who signs; once."""
    order = keys_at(data, NOW).add("order").name
    made = told(capsys, "keys", "init")
    assert {line.partition(".")[0] for line in made} == set(OWNERS) - {"order"}
    assert {str(name) for name in keys_at(data, NOW).private_names()} == {*made, str(order)}
    assert told(capsys, "keys", "init") == []


def test_rotate_makes_a_key_for_each_owner(data: Path, capsys: Captured) -> None:
    """It prints their names, and when they sign: an owner's first one, at once."""
    old = keys_at(data, NOW).add(IDENTITY).name
    lines = told(capsys, "keys", "rotate", IDENTITY, "order", "order")
    (identity,) = set(keys_at(data, NOW).names(IDENTITY)) - {old}
    (order,) = keys_at(data, NOW).names("order")
    assert lines == [f"{identity} signs in 15 s", f"{order} signs at once"]


def test_ls_shows_which_key_signs(data: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """And which one only checks by now, or is too new to sign; and whether it could be signed with from here."""
    old, signs, new = (keys_at(data, NOW + second).add("order").name for second in (0, 100, 200))
    foreign = keys_at(data, NOW).add("cache").name
    (data / "keys" / "private" / f"{foreign}.pem").unlink()
    monkeypatch.setattr("time.time", lambda: NOW + 200 + KNOWN_AFTER - 1)
    assert [line.split() for line in told(capsys, "keys", "ls")] == [
        ["OWNER", "KEY", "CREATED", "STATE", "PRIVATE", "HERE"],
        ["cache", foreign.id, "2026-11-23T06:25:05+00:00", "checks", "no"],
        ["order", old.id, "2026-11-23T06:25:05+00:00", "checks", "yes"],
        ["order", signs.id, "2026-11-23T06:26:45+00:00", "signs", "yes"],
        ["order", new.id, "2026-11-23T06:28:25+00:00", "new", "yes"],
    ]
    listed = json.loads("\n".join(told(capsys, "keys", "ls", "-o", "json")))["keys"]
    assert [(key["id"], key["state"], key["private"]) for key in listed][1:3] == [
        (old.id, "checks", True),
        (signs.id, "signs", True),
    ]


def test_prune_removes_what_no_good_token_can_be_of(
    data: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service's old key minutes after it was replaced, people's when the last refresh token has expired."""
    monkeypatch.setenv("SHOP_REFRESH_TTL", "3600")
    old, new = ([keys_at(data, NOW + second).add(owner).name for owner in (IDENTITY, "order")] for second in (0, 100))
    for later, left in ((300, [*old, *new]), (301, [old[0], *new]), (3600, [old[0], *new]), (3601, new)):
        monkeypatch.setattr("time.time", lambda later=later: NOW + 100 + SETTLED_AFTER + later)
        before = set(keys_at(data, NOW).names())
        pruned = [str(name) for name in sorted(before - set(left))]
        assert told(capsys, "keys", "prune") == (pruned or ["nothing to prune: of every key, good tokens may be left"])
        assert keys_at(data, NOW).names() == sorted(left)
        assert keys_at(data, NOW).private_names() == sorted(left)


def test_a_token_is_the_operators(data: Path, capsys: Captured) -> None:
    """An admin whom every service of the shop believes; another role or time can be asked for."""
    keys_at(data, NOW).add(IDENTITY)
    user = Authority.open(Settings(data=data), "user")
    (token,) = told(capsys, "token")
    assert user.identify(bearer(token)) == Person("operator", Role.ADMIN)
    (token,) = told(capsys, "token", "--role", "customer", "--user", "u1", "--ttl", "60")
    assert user.identify(bearer(token)) == Person("u1", Role.CUSTOMER)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["token", "--role", "customer"], "shop token: --user: must be given for a customer"),
        (["token", "--ttl", "soon"], "shop token: --ttl: must be seconds, from 1 to 2,592,000 (SHOP_REFRESH_TTL)"),
        (["token", "--ttl", "0"], "--ttl: must be seconds"),
        (["token", "--ttl", "nan"], "--ttl: must be seconds"),
        (["token", "--ttl", "2592001"], "--ttl: must be seconds"),
        (["token", "--role", "root"], "--role"),
        (["keys", "rotate"], "OWNER"),
        (["keys", "rotate", "basket"], "OWNER"),
        (["keys"], "ACTION"),
    ],
)
def test_a_wrong_flag_is_named(arguments: list[str], named: str, data: Path, capsys: Captured) -> None:
    """It ends with 2, and says what is allowed."""
    keys_at(data, NOW).add(IDENTITY)
    try:
        code: object = cli.main(arguments)
    except SystemExit as exit_:  # argparse's own way
        code = exit_.code
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert named in captured.err


WHERE = "is this the data directory of the shop that runs (SHOP_DATA, SHOP_KEYS_DIR)?"


@pytest.mark.parametrize("command", [["token"], ["cache", "stats"]])
def test_no_key_is_made_for_a_token(command: list[str], data: Path, capsys: Captured) -> None:
    """No service would know it; the error says where it was looked for, and asks whether that is the right place."""
    assert cli.main(command) == 1
    expected = f"shop {command[0]}: there is no key of identity in {data / 'keys' / 'private'}: {WHERE}\n"
    assert capsys.readouterr().err == expected
    assert not data.exists()


@pytest.mark.parametrize(
    ("command", "advice"),
    [(["ls"], ""), (["prune"], ""), (["rotate", IDENTITY], "`shop keys init` makes the first ones, or ")],
)
def test_a_directory_that_is_not_there_is_the_wrong_one(
    command: list[str], advice: str, data: Path, capsys: Captured
) -> None:
    """An empty answer would say that all is well, and a stray key would be no key of the shop that runs."""
    assert cli.main(["keys", *command]) == 1
    assert capsys.readouterr().err == f"shop keys: there are no keys in {data / 'keys'}: {advice}{WHERE}\n"
    assert not data.exists()


def test_the_data_directory_may_be_named(tmp_path: Path, data: Path, capsys: Captured) -> None:
    """`--data` goes before SHOP_DATA, in each command."""
    other = str(tmp_path / "other")
    assert len(told(capsys, "keys", "init", "--data", other)) == len(OWNERS)
    assert len(told(capsys, "keys", "ls", "--data", other)) == 1 + len(OWNERS)
    assert len(told(capsys, "keys", "rotate", IDENTITY, "--data", other)) == 1
    assert len(told(capsys, "keys", "prune", "--data", other)) == 1
    (token,) = told(capsys, "token", "--data", other)
    user = Authority.open(Settings(data=tmp_path / "other"), "user")
    assert user.identify(bearer(token)) == Person("operator", Role.ADMIN)
    assert not data.exists()
    missing = tmp_path / "missing"
    assert cli.main(["cache", "stats", "--data", str(missing)]) == 1
    assert str(missing / "keys") in capsys.readouterr().err
