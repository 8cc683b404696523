"""Migrations run at start, once, whoever is first."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa

from shop_services.runtime.app import StartError
from shop_services.runtime.errors import Unavailable
from shop_services.storage import Database, MigrationError, migrate
from tests.servers import free_port

SCRIPT = '''
"""{name}"""
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{revision}", {before!r}, None, None


def upgrade() -> None:
    {body}
'''


def _script(directory: Path, revision: str, before: str | None, body: str) -> None:
    directory.mkdir(exist_ok=True)
    text = SCRIPT.format(name=f"Script {revision}", revision=revision, before=before, body=body)
    (directory / f"v{revision}.py").write_text(text)


def _create(table: str) -> str:
    return f'op.create_table("{table}", sa.Column("id", sa.Integer, primary_key=True))'


async def _tables(database: Database) -> set[str]:
    async with database.reading() as connection:
        return set(await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names()))


async def test_scripts_are_applied_in_order_and_once(database: Database, tmp_path: Path) -> None:
    """A second start finds nothing to do; a new script is applied by the next."""
    scripts = tmp_path / "a"
    _script(scripts, "0001", None, _create("first"))
    await migrate(database, "a", scripts)
    await migrate(database, "a", scripts)
    assert await _tables(database) == {"first", "alembic_version_a"}
    _script(scripts, "0002", "0001", 'op.rename_table("first", "second")')
    await migrate(database, "a", scripts)
    assert await _tables(database) == {"second", "alembic_version_a"}


async def test_instances_that_start_together_do_not_collide(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    """Several pools on one empty database, each as a process of its own has it, all end with the tables made."""
    scripts = tmp_path / "a"
    _script(scripts, "0001", None, _create("first"))
    others = [Database(database_url, service="a") for _ in range(4)]
    async with asyncio.timeout(30):
        await asyncio.gather(*(migrate(one, "a", scripts) for one in (database, *others)))
    for other in others:
        await other.close()
    assert await _tables(database) == {"first", "alembic_version_a"}


async def test_services_share_a_database(database: Database, tmp_path: Path) -> None:
    """Each has its own versions, also when two are migrated at the same time in one process."""
    for name in ("a", "b"):
        _script(tmp_path / name, "0001", None, _create(f"{name}_things"))
    await asyncio.gather(*(migrate(database, name, tmp_path / name) for name in ("a", "b")))
    assert await _tables(database) == {"a_things", "b_things", "alembic_version_a", "alembic_version_b"}


async def test_a_script_that_fails_leaves_nothing(database: Database, tmp_path: Path) -> None:
    """All scripts of a start are one transaction: the tables of those before it are undone, too."""
    scripts = tmp_path / "a"
    _script(scripts, "0001", None, _create("first"))
    _script(scripts, "0002", "0001", f'{_create("second")}; op.execute("nonsense")')
    with pytest.raises(sa.exc.DBAPIError, match="nonsense"):
        await migrate(database, "a", scripts)
    assert await _tables(database) == set()


async def test_a_database_of_newer_code_is_refused(database: Database, tmp_path: Path) -> None:
    """An old instance does not start on tables that it does not know, and says so."""
    scripts = tmp_path / "a"
    _script(scripts, "0001", None, _create("first"))
    _script(scripts, "0002", "0001", _create("second"))
    await migrate(database, "a", scripts)
    (scripts / "v0002.py").unlink()
    with pytest.raises(MigrationError, match=r"cannot migrate the tables of a: .*0002") as caught:
        await migrate(database, "a", scripts)
    assert isinstance(caught.value, StartError)


async def test_a_directory_with_a_percent_sign_works(database: Database, tmp_path: Path) -> None:
    """Paths are not taken for alembic's own interpolation."""
    scripts = tmp_path / "100%s"
    _script(scripts, "0001", None, _create("first"))
    await migrate(database, "a", scripts)
    assert "first" in await _tables(database)


async def test_a_url_that_names_no_database_of_ours_is_refused_by_name(postgres_url: str, tmp_path: Path) -> None:
    """A file that is no database, a database that is not there, and a refused login blame DATABASE_URL, for good."""
    text = tmp_path / "text.db"
    text.write_text("not a database " * 100)
    url = sa.make_url(postgres_url)
    wrong = {
        f"sqlite:///{text}": "the file is not a SQLite database",
        url.set(database="nobody").render_as_string(hide_password=False): "the server has no database of that name",
        url.set(username="nobody").render_as_string(hide_password=False): "the database refuses the login",
    }
    for address, why in wrong.items():
        async with Database(address, service="a") as database:
            with pytest.raises(MigrationError, match=f"^DATABASE_URL: {why}$"):
                await migrate(database, "a", tmp_path)


async def test_a_database_that_is_away_is_named_too(tmp_path: Path) -> None:
    """Trying again may help, so it is `Unavailable`, and says which variable it is about."""
    async with Database(f"postgresql://u:secret@127.0.0.1:{free_port()}/x", service="a") as database:
        with pytest.raises(Unavailable, match=r"^DATABASE_URL: the database is not available$"):
            await migrate(database, "a", tmp_path)
