"""Fixtures that give tests real servers (see `tests.servers`)."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.servers import Etcd, EtcdCluster, Nats, NatsCluster, Postgres, Valkey

# How long an example takes says how busy the machine is, and nothing of the code. Every run has the same examples:
# others come with `--hypothesis-profile explore`, and what they find becomes an example of its own.
settings.register_profile("explore", parent=settings.default, deadline=None)
settings.register_profile("shop", parent=settings.get_profile("explore"), derandomize=True)
settings.load_profile("shop")

# A shell's background jobs (`buildscripts/test &` in a script) are started deaf to Ctrl-C, and so would be all
# processes that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    """An etcd of the test's own, which it may kill, freeze and wipe."""
    server = Etcd(tmp_path / "etcd")
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.fixture(scope="session")
def shared_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """An etcd for all tests that leave it alone; each uses a random prefix."""
    server = Etcd(tmp_path_factory.mktemp("shared_etcd"))
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.fixture
def etcd_cluster(tmp_path: Path) -> Iterator[EtcdCluster]:
    """A cluster of three etcd servers of the test's own."""
    cluster = EtcdCluster(tmp_path / "etcd_cluster")
    try:
        yield cluster.start()
    finally:
        cluster.kill()


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[Nats]:
    """A NATS server with JetStream of the test's own."""
    server = Nats(tmp_path / "nats")
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.fixture
def nats_cluster(tmp_path: Path) -> Iterator[NatsCluster]:
    """A cluster of three NATS servers of the test's own."""
    cluster = NatsCluster(tmp_path / "nats_cluster")
    try:
        yield cluster.start()
    finally:
        cluster.kill()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL for all tests; use `postgres_url` for a database on it."""
    server = Postgres()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """The URL of a fresh database: `postgresql+asyncpg://…`."""
    with postgres.database() as url:
        yield url


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """A Valkey for all tests; use `redis_url` for it with no keys."""
    server = Valkey(tmp_path_factory.mktemp("valkey"))
    try:
        yield server.start()
    finally:
        server.kill()


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    """The URL of a Valkey without keys: `redis://…`."""
    valkey.clear()
    return valkey.url
