"""URLs of databases: what is understood, and what is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from shop_services.runtime.settings import SettingError
from shop_services.storage.database import Database
from shop_services.storage.engine import make_engine


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("postgresql://shop:pw@db:5433/x", "postgresql+asyncpg://shop:***@db:5433/x"),
        ("postgres://db/x", "postgresql+asyncpg://db/x"),
        ("postgresql+asyncpg://db/x?sslmode=require", "postgresql+asyncpg://db/x"),
    ],
)
def test_urls_name_the_database_and_not_the_driver(given: str, used: str) -> None:
    """What other tools call `postgresql://` is enough."""
    assert repr(make_engine(given, service="user", pool=1).url) == used


def test_a_database_never_shows_its_password() -> None:
    """Neither in its repr nor in its engine's."""
    database = Database("postgresql://shop:swordfish@db/x", service="user")
    assert "swordfish" not in repr(database) + repr(database.engine)


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "postgresql://shop:swordfish@db:port/x",
        "postgresql://db/x?sslmode=maybe",
        "postgresql://db/x?swordfish=1&colour=2",
        "swordfish",
    ],
)
def test_a_url_that_cannot_be_used_is_a_wrong_setting(url: str) -> None:
    """The variable is named, and nothing of the URL is shown."""
    with pytest.raises(SettingError) as caught:
        make_engine(url, service="user", pool=1)
    assert caught.value.variable == "DATABASE_URL"
    assert "swordfish" not in str(caught.value)


def test_the_directory_of_a_file_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    """Password hashes lie there."""
    make_engine(f"sqlite:///{tmp_path}/data/user.db", service="user", pool=1)
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The reason is the system's."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="cannot make the directory"):
        make_engine(f"sqlite:///{tmp_path}/file/data/user.db", service="user", pool=1)
