"""Keys in files: who may read them, how others hear of new and removed ones, and what is wrong with a file."""

from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from structlog.testing import capture_logs

from shop_services.runtime.errors import Unavailable
from shop_services.runtime.identity.directory import LOOK_SECONDS, KeyDirectory
from shop_services.runtime.identity.keys import KNOWN_AFTER, KeyName, MissingKey
from tests.unit.services.runtime.identity.clock import Clock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "keys"


@pytest.fixture
def keys(path: Path, clock: Clock) -> KeyDirectory:
    """A process that makes what is missing."""
    return KeyDirectory(path, make=True, clock=clock)


@pytest.fixture
def others(path: Path, clock: Clock) -> KeyDirectory:
    """Another process, that makes none."""
    return KeyDirectory(path, clock=clock)


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_private_keys_are_their_owners_alone(keys: KeyDirectory, path: Path) -> None:
    """Nobody else may read their files, nor list them; public ones are text that tells nothing."""
    name = keys.signing("order").name
    private, public = path / "private" / f"{name}.pem", path / "public" / f"{name}.pem"
    assert (mode(private.parent), mode(private)) == (0o700, 0o600)
    assert private.read_text().startswith("-----BEGIN PRIVATE KEY-----")
    assert public.read_text().startswith("-----BEGIN PUBLIC KEY-----")
    assert [file.name for file in path.rglob("*") if file.is_file()] == [f"{name}.pem"] * 2


def test_nobody_else_can_put_a_key_there(keys: KeyDirectory, path: Path) -> None:
    """Not under a umask that lets a group write either; and a data directory that is made for it is its owner's."""
    umask = os.umask(0o002)
    try:
        keys.signing("identity")
    finally:
        os.umask(umask)
    assert [mode(folder) for folder in (path.parent, path, path / "public")] == [0o700, 0o755, 0o755]


def test_a_missing_key_is_named(others: KeyDirectory, path: Path) -> None:
    """Who may not make one says where it looked, and leaves nothing behind."""
    with pytest.raises(MissingKey, match=r"there is no key of order in .*/data/keys/private"):
        others.signing("order")
    assert not path.exists()


def test_a_new_key_is_known_to_others_at_once(keys: KeyDirectory, others: KeyDirectory) -> None:
    """Not when they look next: a token names its key, and so its file."""
    first, second = keys.add("order").name, keys.add("cache").name
    assert others.public(first) is not None
    third = keys.add("order").name
    assert others.public(third) is not None
    assert others.public(second) is not None


def test_a_removed_key_is_trusted_for_seconds_at_most(keys: KeyDirectory, others: KeyDirectory, clock: Clock) -> None:
    """Others stop trusting it at their next look, and who removed it at once."""
    name = keys.add("order").name
    known = others.public(name)
    keys.remove(name)
    assert keys.public(name) is None
    clock.now += LOOK_SECONDS - 1
    assert others.public(name) is known
    clock.now += 1
    assert others.public(name) is None


def test_a_clock_that_goes_back_keeps_no_removed_key(keys: KeyDirectory, others: KeyDirectory, clock: Clock) -> None:
    """What was looked at in the future is looked at again."""
    name = keys.add("order").name
    assert others.public(name)
    keys.remove(name)
    clock.now -= 3600
    assert others.public(name) is None


def test_all_signers_go_over_to_a_key_that_another_process_made(
    keys: KeyDirectory, others: KeyDirectory, clock: Clock
) -> None:
    """They find it by themselves, when it is old enough."""
    old = keys.signing("order").name
    assert others.signing("order").name == old
    clock.now += 60
    new = keys.add("order").name
    assert {keys.signing("order").name, others.signing("order").name} == {old}
    clock.now += KNOWN_AFTER
    assert {keys.signing("order").name, others.signing("order").name} == {new}


def test_processes_that_start_at_once_make_one_key(path: Path, clock: Clock) -> None:
    """They find each other's, however close they are."""
    directories = [KeyDirectory(path, make=True, clock=clock) for _ in range(8)]
    with ThreadPoolExecutor(len(directories)) as threads:
        made = set(threads.map(lambda each: each.signing("order").name, directories))
    assert list(made) == directories[0].names()


def test_two_keys_made_at_once_are_both_good(path: Path, clock: Clock) -> None:
    """And all processes come to sign with the same."""
    one, two = KeyDirectory(path, make=True, clock=clock), KeyDirectory(path, make=True, clock=clock)
    first, second = one.add("order"), two.add("order")
    assert one.public(second.name) is not None
    assert two.public(first.name) is not None
    clock.now += LOOK_SECONDS
    assert one.signing("order").name == two.signing("order").name


def test_a_public_key_is_there_before_the_private_one(
    keys: KeyDirectory, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies between the two leaves a key that signs nothing, not tokens that nobody can check."""
    rename = Path.rename
    moved: list[str] = []

    def dying(file: Path, target: Path) -> Path:
        moved.append(target.parent.name)
        if len(moved) == 2:
            raise OSError(errno.EIO, "gone")
        return rename(file, target)

    monkeypatch.setattr(Path, "rename", dying)
    with pytest.raises(OSError, match="gone"):
        keys.add("order")
    assert moved == ["public", "private"]
    assert list((path / "private").iterdir()) == []
    monkeypatch.undo()
    assert keys.signing("order").name in keys.names("order")


def _pem_of_another_kind(private: bool) -> bytes:
    key = generate_private_key(SECP256R1())
    if private:
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("content", [b"", b"-----BEGIN PUBLIC KEY-----\n", b"\xff\0", _pem_of_another_kind(False)])
def test_a_public_file_that_is_no_key_is_not_trusted(keys: KeyDirectory, path: Path, content: bytes) -> None:
    """It is as if it were not there, and the log says that it is."""
    name = keys.add("order").name
    (path / "public" / f"{name}.pem").write_bytes(content)
    with capture_logs() as logged:
        assert KeyDirectory(path).public(name) is None
    assert [(entry["event"], entry["key"]) for entry in logged] == [("key_unusable", str(name))]


@pytest.mark.parametrize("content", [b"", b"text", _pem_of_another_kind(True)])
def test_a_private_file_that_is_no_key_signs_nothing(keys: KeyDirectory, path: Path, content: bytes) -> None:
    """Another key does."""
    broken = keys.add("order").name
    (path / "private" / f"{broken}.pem").write_bytes(content)
    good = keys.add("order").name
    with capture_logs():
        assert KeyDirectory(path).signing("order").name == good


def test_other_files_are_none_of_its_keys(keys: KeyDirectory, path: Path) -> None:
    """A note, a draft, a directory: only names of keys are."""
    name = keys.add("order").name
    for odd in ("README", "order.pem", ".order.20261123T062505Z-3f9c1a.pem.ab12", "a.b.c.pem", "order.2026.pem"):
        (path / "public" / odd).touch()
    assert keys.names() == keys.names("order") == [name]
    assert KeyDirectory(path / "nowhere").names() == []


def test_files_that_cannot_be_read_are_no_verdict(
    keys: KeyDirectory, path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While there are too many open files, what is known stays in force; of the rest nothing is said but that."""
    known, unknown = keys.add("order").name, KeyName("order", "20261123T062505Z-3f9c1a")
    public, private = keys.public(known), keys.signing("order")

    def fail(*_args: Any, **_options: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    clock.now += LOOK_SECONDS
    monkeypatch.setattr(Path, "stat", fail)
    monkeypatch.setattr(Path, "read_bytes", fail)
    monkeypatch.setattr(os, "listdir", fail)
    with capture_logs() as logged:
        assert keys.public(known) is public
        assert keys.signing("order") is private
        with pytest.raises(Unavailable, match="the keys that tokens are checked with cannot be read"):
            keys.public(unknown)
        with pytest.raises(MissingKey, match="cannot be read: Too many open files"):
            KeyDirectory(path).signing("order")
    assert {entry["event"] for entry in logged} == {"key_unreadable"}


def test_a_look_is_rare(keys: KeyDirectory, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A known key costs a system call every few seconds, not one for each token."""
    name = keys.add("order").name
    keys.public(name)
    looks: list[Path] = []
    look = Path.stat

    def counted(file: Path, **options: Any) -> os.stat_result:
        looks.append(file)
        return look(file, **options)

    monkeypatch.setattr(Path, "stat", counted)
    for _ in range(100):
        clock.now += LOOK_SECONDS / 50
        keys.public(name)
    assert 1 <= len(looks) <= 3
