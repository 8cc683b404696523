"""The test servers do what tests believe of them: they keep their data, freeze, and never outlive their starter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis.asyncio as redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from tests.servers import Etcd, EtcdCluster, Nats, NotReady, free_port

ROOT = Path(__file__).parents[3]


def test_etcd_keeps_port_and_data_over_a_crash(etcd: Etcd) -> None:
    """A killed etcd comes back at its address with what it held; wiped, with nothing."""
    url = etcd.url
    etcd.ctl("put", "key", "value")
    etcd.kill()
    etcd.start()
    assert etcd.url == url
    assert etcd.ctl("get", "key", "--print-value-only") == "value\n"
    etcd.stop()
    etcd.wipe()
    etcd.start()
    assert etcd.ctl("get", "key") == ""


def test_a_frozen_etcd_answers_nobody_until_it_goes_on(etcd: Etcd) -> None:
    """A paused server is there and silent, as behind a cut cable."""
    etcd.pause()
    with pytest.raises(subprocess.CalledProcessError):
        etcd.ctl("put", "key", "value", "--command-timeout=200ms")
    etcd.resume()
    assert etcd.ctl("put", "key", "value") == "OK\n"


def test_a_cluster_loses_a_member_and_goes_on(etcd_cluster: EtcdCluster) -> None:
    """Two of three members keep serving, and the third finds what it missed."""
    follower = next(member for member in etcd_cluster.members if ", false, false," in member.ctl("endpoint", "status"))
    rest = [member for member in etcd_cluster.members if member is not follower]
    follower.kill()
    assert rest[0].ctl("put", "key", "value") == "OK\n"
    follower.start()
    assert follower.ctl("get", "key", "--print-value-only") == "value\n"


def test_nats_keeps_its_streams_over_a_crash(nats: Nats) -> None:
    """A killed NATS server comes back at its address."""
    url = nats.url
    nats.kill()
    nats.start()
    assert nats.url == url
    nats.wait_ready()


@pytest.mark.parametrize("attempt", [1, 2])
async def test_each_test_has_an_empty_database(postgres_url: str, attempt: int) -> None:
    """A test gets an empty database, whatever the test before it left in its own."""
    engine = create_async_engine(postgres_url)
    try:
        async with engine.begin() as connection:
            tables = text("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
            assert await connection.scalar(tables) == 0
            await connection.execute(text("CREATE TABLE leftover (id int)"))
    finally:
        await engine.dispose()


@pytest.mark.parametrize("attempt", [1, 2])
async def test_redis_starts_each_test_without_keys(redis_url: str, attempt: int) -> None:
    """What one test stored, the next does not see."""
    client = redis.from_url(redis_url)
    try:
        assert await client.dbsize() == 0
        await client.set("key", attempt)
    finally:
        await client.aclose()


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The error holds the end of the server's log."""
    server = Etcd(tmp_path, flags=["--no-such-flag"])
    with pytest.raises(NotReady, match="no-such-flag"):
        server.start()
    assert not server.running


def test_no_server_outlives_a_killed_starter(tmp_path: Path) -> None:
    """SIGKILL to the process that started a server, which runs no cleanup, ends the server too."""
    program = (
        "import sys, time; from pathlib import Path; from tests.servers import Etcd\n"
        "print(Etcd(Path(sys.argv[1])).start().pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, cwd=ROOT) as starter:
        assert starter.stdout is not None
        server = int(starter.stdout.readline())
        os.kill(server, 0)
        starter.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and Path(f"/proc/{server}").exists():
        time.sleep(0.02)
    assert not Path(f"/proc/{server}").exists()


def test_free_ports_differ() -> None:
    """No port is given twice, so two servers never race for one."""
    ports = [free_port() for _ in range(200)]
    assert len(set(ports)) == len(ports)
