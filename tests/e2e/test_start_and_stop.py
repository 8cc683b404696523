"""`shop up` from its start to its end, however that comes."""

from __future__ import annotations

import os
import signal
import socket
from uuid import uuid4

import pytest

from tests.e2e.processes import alive, frozen, listener
from tests.e2e.running_shop import RunningShop


def test_stops_without_a_trace_and_starts_again_with_its_data(own_shop: RunningShop) -> None:
    """Ctrl-C drains and exits with 0, leaving no process and no key; the next start finds the data of the last."""
    own_shop.start()
    name = f"u{uuid4().hex[:12]}"
    account = {"email": f"{name}@shop.example", "username": name, "password": "correct horse"}
    user = own_shop.http("POST", "/v1/users", account)["user"]
    catalog = own_shop.http("GET", "/v1/products?pageSize=1000")
    instances = own_shop.instances()
    ids = {instance["id"] for instance in instances}
    assert {instance["lease_ttl"] for instance in instances} == {3}  # the default
    processes = own_shop.descendants()
    assert len(processes) == 13  # six services, four workers, etcd, NATS and the mail server

    assert own_shop.stop() == 0
    assert not alive(processes)
    assert own_shop.complaints() == ""

    own_shop.start()
    assert own_shop.http("GET", f"/v1/users/{user['id']}")["user"] == user
    assert own_shop.http("GET", "/v1/products?pageSize=1000") == catalog  # nothing was seeded again
    assert not ids & {instance["id"] for instance in own_shop.instances()}
    assert own_shop.stop(signal.SIGTERM) == 0


def test_a_second_shop_on_the_same_data_is_refused(shop: RunningShop) -> None:
    """A second start on a data directory in use ends at once with 1, and names the process that has it."""
    second = RunningShop(shop.data.with_name("second"), "--data", str(shop.data)).spawn()
    assert second.wait() == 1
    assert f"in use by another shop (pid {shop.process.pid})" in second.errors()
    assert second.output() == []


def test_a_taken_port_is_refused(own_shop: RunningShop) -> None:
    """A gateway port in use ends the start with 1 before anything runs: which port, who has it, what to do."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        taken = RunningShop(own_shop.data, "--port", str(port)).spawn()
        assert taken.wait() == 1
    assert taken.errors().startswith(f"shop up: port {port} is in use by ")
    assert f"(pid {os.getpid()})" in taken.errors()
    assert taken.output() == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REGISTRY_URL", "http://127.0.0.1:2379"),
        ("REGISTRY_URL", "etcd://127.0.0.1:99999"),
        ("DATABASE_URL", "mysql://x"),
        ("SHOP_WEIGHT", "0"),
        ("SHOP_GRACE", "x"),
        ("SHOP_ADVERTISE", "no-such-host.invalid"),
        ("SHOP_CACHE_NAMESPACES", "catalog=mru"),
    ],
)
def test_a_wrong_setting_is_refused(own_shop: RunningShop, variable: str, value: str) -> None:
    """A variable that cannot be used ends the start with 2 and one line that names it, before anything runs."""
    wrong = RunningShop(own_shop.data, **{variable: value}).spawn()
    assert wrong.wait() == 2
    assert variable in wrong.errors()
    assert wrong.errors().count("\n") == 1
    assert wrong.output() == []


def test_a_setting_that_only_a_service_can_judge_stops_the_start(own_shop: RunningShop) -> None:
    """What only the services find out (an address that is not ours) stops all, and is shown with exit code 2."""
    wrong = RunningShop(own_shop.data, SHOP_HOST="203.0.113.1").spawn()
    assert wrong.wait(120) == 2
    assert "cannot bind 203.0.113.1:" in wrong.errors()


def test_a_killed_supervisor_takes_all_with_it(own_shop: RunningShop) -> None:
    """kill -9 of `shop up` itself leaves no process behind, and the directory can be used again at once."""
    own_shop.start()
    processes = own_shop.descendants()
    own_shop.kill()
    assert not alive(processes, seconds=10)
    own_shop.start()
    assert own_shop.stop() == 0


def test_a_second_ctrl_c_kills(own_shop: RunningShop) -> None:
    """A second Ctrl-C does not wait for the drain: exit code 130, and no process is left."""
    own_shop.start()
    processes = own_shop.descendants()
    # Of the table that it prints: it has a lease of 3 s in the registry, and so may be missed there for a moment.
    (worker,) = (line.split() for line in own_shop.output() if line.startswith("  worker-orders "))
    with frozen(listener(worker[1])):  # so that the drain does not end before the second Ctrl-C
        own_shop.process.send_signal(signal.SIGINT)
        own_shop.wait_for("stopping:")
        own_shop.process.send_signal(signal.SIGINT)
        assert own_shop.wait() == 130
    assert not alive(processes, seconds=10)


def test_runs_on_postgresql(own_shop: RunningShop, postgres_url: str) -> None:
    """With DATABASE_URL all services share that database, nothing is kept beside it, and its catalog is left alone."""
    shop = RunningShop(own_shop.data, "--replicas", "1", DATABASE_URL=postgres_url).start()
    assert shop.http("GET", "/v1/products").get("products", []) == []
    price = {"currencyCode": "EUR", "units": "3"}
    shop.http("POST", "/v1/products", {"sku": "CUP-1", "name": "Cup", "category": "kitchen", "price": price})
    assert len(shop.http("GET", "/v1/products")["products"]) == 1
    assert not list(shop.data.glob("*.db"))
    assert shop.stop() == 0


def test_the_demo_succeeds(own_shop: RunningShop) -> None:
    """`shop up --demo` plays the whole journey, says that all of it worked, stops everything and exits with 0."""
    demo = RunningShop(own_shop.data, "--demo").spawn()
    assert demo.wait(300) == 0, demo.output()[-5:] + demo.errors().splitlines()[-20:]
    assert any(line.startswith("All of it worked") for line in demo.output())
