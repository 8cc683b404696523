"""Service configs in a real etcd: how soon a change is known, what outages do to it, and `meshctl config`."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

import grpc_registry
from grpc_registry.etcd import kv
from grpc_registry.etcd.connection import Connection
from grpc_registry.etcd.registry import EtcdRegistry
from grpc_registry.service_config import InvalidServiceConfig, parse
from tests.elapsed import measured
from tests.integration.client.proxy import Proxy
from tests.integration.registry.conftest import CALM, Connect
from tests.servers import Etcd, free_port
from tests.watching import until

ONE = '{"methodConfig": [{"name": [{}], "timeout": "1s"}]}'
OTHER = '{"methodConfig": [{"name": [{}], "timeout": "2s"}]}'
KEY = "mesh:config/product"


async def test_a_change_is_known_at_once(shared: Connect) -> None:
    """From the call that sets a config to a watcher that has it: well below a second, milliseconds as a rule."""
    seconds = []
    async with (
        shared() as operator,
        shared() as reader,
        aclosing(reader.watch_config("product")) as watch,
        measured() as elapsed,
    ):
        await until(watch, lambda _: True)
        for number in range(20):
            text = f'{{"number": {number}}}'
            began = elapsed.seconds
            await operator.set_config("product", text)
            assert (await until(watch, lambda _: True)).text == text
            seconds.append(elapsed.seconds - began)
    assert max(seconds) < 1
    assert sorted(seconds)[10] < 0.1, "usually 1 ms"


async def test_what_was_set_during_an_outage_is_known_after_it(own: Connect, etcd: Etcd) -> None:
    """A reader that was cut off keeps the last config, stale, and has the present one soon after etcd's return."""
    async with own() as reader, aclosing(reader.watch_config("product")) as watch:
        await asyncio.to_thread(etcd.ctl, "put", KEY, ONE)
        await until(watch, lambda snapshot: snapshot.text == ONE)
        await asyncio.to_thread(etcd.kill)
        async with measured() as elapsed:
            assert (await until(watch, lambda snapshot: snapshot.stale)).text == ONE
            assert elapsed.seconds < 2  # 0.1 s as a rule; a ping, which finds out too, takes 14 s
        await asyncio.to_thread(etcd.start)
        await asyncio.to_thread(etcd.ctl, "put", KEY, OTHER)
        back = await until(watch, lambda snapshot: snapshot.text == OTHER)
        assert not back.stale


async def test_a_wiped_store_has_no_config_and_says_that_it_is_another(own: Connect, etcd: Etcd) -> None:
    """Nobody puts a config back; that it went with the whole store, and not by hand, is marked."""
    async with own() as reader, aclosing(reader.watch_config("product")) as watch:
        await asyncio.to_thread(etcd.ctl, "put", KEY, ONE)
        await until(watch, lambda snapshot: snapshot.text == ONE)
        await asyncio.to_thread(etcd.kill)
        await until(watch, lambda snapshot: snapshot.stale)
        etcd.wipe()
        await asyncio.to_thread(etcd.start)
        wiped = await until(watch, lambda snapshot: not snapshot.stale)
        assert (wiped.text, wiped.relisted) == (None, True)
        await asyncio.to_thread(etcd.ctl, "put", KEY, OTHER)
        await until(watch, lambda snapshot: snapshot.text == OTHER)


async def test_a_compacted_store_is_read_anew(etcd: Etcd) -> None:
    """Changes that were made and compacted while a watcher was cut off are found by its next list."""
    cable = Proxy(etcd.port)
    cable.port = free_port()  # which it keeps
    await cable.start()
    try:
        url = f"etcd://127.0.0.1:{cable.port}"
        async with grpc_registry.connect(url) as reader, aclosing(reader.watch_config("product")) as watch:
            await asyncio.to_thread(etcd.ctl, "put", KEY, ONE)
            known = await until(watch, lambda snapshot: snapshot.text == ONE)
            await cable.stop()
            await until(watch, lambda snapshot: snapshot.stale)
            await asyncio.to_thread(etcd.ctl, "del", KEY)
            await asyncio.to_thread(etcd.ctl, "put", KEY, OTHER)
            await asyncio.to_thread(etcd.ctl, "compact", str(known.revision + 2))
            await cable.start()
            await until(watch, lambda snapshot: snapshot.text == OTHER)
    finally:
        await cable.stop()


async def test_bytes_that_are_no_text_reach_clients_as_something_invalid(shared: Connect) -> None:
    """A value that is not UTF-8 is neither hidden nor obeyed: it parses as little as any other nonsense."""
    async with shared() as registry, aclosing(registry.watch_config("product")) as watch:
        await until(watch, lambda _: True)
        assert isinstance(registry, EtcdRegistry)
        await kv.put(registry._connection, registry._keyspace.config("product"), b'{"comment": "\xff"}')
        text = (await until(watch, lambda _: True)).text
        assert text is not None
        with pytest.raises(InvalidServiceConfig, match="is not JSON"):
            parse(text)
        assert await registry.get_config("product") == text


async def test_a_range_of_one_key_is_one_key(shared: Connect, prefix: str) -> None:
    """A list of a single key does not find its neighbours."""
    async with shared() as registry:
        assert isinstance(registry, EtcdRegistry)
        connection: Connection = registry._connection
        for name in ("a", "b", "c"):
            await kv.put(connection, f"{prefix}/{name}".encode(), name.encode())
        _, found = await kv.list_range(connection, kv.KeyRange(f"{prefix}/b".encode()))
        assert [entry.value for entry in found] == [b"b"]
        await kv.delete(connection, f"{prefix}/b".encode())
        _, found = await kv.list_range(connection, kv.KeyRange(f"{prefix}/b".encode()))
        assert found == []
        _, found = await kv.list_range(connection, kv.KeyRange.under(f"{prefix}/".encode()))
        assert [entry.value for entry in found] == [b"a", b"c"]


async def meshctl(etcd: Etcd, arguments: Sequence[str], stdin: str = "") -> tuple[int | None, str, str]:
    """Run `meshctl` as a shell does; its status and what it prints to stdout and stderr."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-X", "dev", "-W", "error", "-c", f"{CALM}import sys; from grpc_registry.cli import main; sys.exit(main())"),
        *("--registry", etcd.url, *arguments),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    out, errors = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
    return process.returncode, out.decode(), errors.decode()


async def test_meshctl_sets_shows_and_removes(etcd: Etcd, own: Connect, tmp_path: Path) -> None:
    """A config goes from a file or stdin into etcd to the letter and to whoever watches; a wrong one does not."""
    file = tmp_path / "product.json"
    file.write_text(ONE)
    async with own() as reader, aclosing(reader.watch_config("product")) as watch:
        await until(watch, lambda snapshot: snapshot.text is None)
        assert await meshctl(etcd, ["config", "set", "product", str(file)]) == (0, "product: service config set\n", "")
        await until(watch, lambda snapshot: snapshot.text == ONE)
        assert await asyncio.to_thread(etcd.ctl, "get", "mesh:config/product") == f"mesh:config/product\n{ONE}\n"
        assert await meshctl(etcd, ["config", "get", "product"]) == (0, f"{ONE}\n", "")

        wrong = ONE.replace('"1s"', "1")
        status, out, errors = await meshctl(etcd, ["config", "set", "product", "-"], wrong)
        assert (status, out) == (2, "")
        assert errors == ("meshctl: methodConfig[0].timeout: must be a duration in seconds, like '1.5s', not 1\n")
        assert await reader.get_config("product") == ONE

        assert (await meshctl(etcd, ["config", "set", "product", "-"], OTHER))[0] == 0
        await until(watch, lambda snapshot: snapshot.text == OTHER)
        assert await meshctl(etcd, ["config", "rm", "product"]) == (0, "product: service config removed\n", "")
        await until(watch, lambda snapshot: snapshot.text is None)
        for command in ("get", "rm"):
            expected = (3, "", "meshctl: 'product' has no service config\n")
            assert await meshctl(etcd, ["config", command, "product"]) == expected
