"""Blocking channels in real processes: forked, spawned, interrupted, and ended without a word."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.client.blocking import ServerElsewhere, server_elsewhere

_ROOT = str(Path(__file__).parents[3])

_BEGIN = """
import os, sys, threading, time
sys.path.insert(0, sys.argv[1])
import grpc
from grpc_balancer import sync
from grpc_balancer.testing import ManualResolver
from grpc_registry import Instance, Snapshot


def resolver():
    made = ManualResolver()
    made.push(Snapshot("echo", 1, (Instance("echo", sys.argv[2]),)))
    return made


def call(channel, request=b"x"):
    return channel.unary_unary("/test.Echo/UnaryUnary")(request, timeout=30)


def in_child(work):
    pid = os.fork()
    if pid == 0:
        try:
            print("child:", work(), flush=True)
        except RuntimeError as error:
            print("child:", error, flush=True)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


channel = sync.Channel("echo", resolver)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerElsewhere]:
    with server_elsewhere() as started:
        yield started


@pytest.fixture(params=["0", "1"], ids=["fork support off", "fork support on"])
def environment(request: pytest.FixtureRequest) -> dict[str, str]:
    """Both ways in which gRPC may be told to handle forks; grpcio 1.85 is built to take an unset variable for 1."""
    return _fork_support(request.param)


@pytest.fixture
def without_fork_support() -> dict[str, str]:
    """What a program needs that forks while a channel is in use."""
    return _fork_support("0")


def _fork_support(setting: str) -> dict[str, str]:
    return {**os.environ, "GRPC_ENABLE_FORK_SUPPORT": setting, "GRPC_VERBOSITY": "ERROR"}


def _run(script: str, server: ServerElsewhere, environment: dict[str, str]) -> list[str]:
    command = [sys.executable, "-W", "error", "-c", _BEGIN + script, _ROOT, server.inside.address]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_fork_before_the_first_use(server: ServerElsewhere, environment: dict[str, str]) -> None:
    """A channel that was made but not used may be used in the child, and in the parent."""
    script = """
in_child(lambda: call(channel))
in_child(lambda: call(channel))
print("parent:", call(channel))
"""
    assert _run(script, server, environment) == ["child: b'x'", "child: b'x'", "parent: b'x'"]


def test_fork_after_use(server: ServerElsewhere, without_fork_support: dict[str, str]) -> None:
    """After use the child is told what to do, for that channel and for any other, and the parent goes on."""
    script = """
call(channel)
stub = channel.unary_stream("/test.Echo/UnaryStream")
stream = stub(b"repeat 3")
next(stream)
in_child(lambda: call(channel))
in_child(lambda: call(sync.Channel("echo", resolver)))
in_child(lambda: list(stream))
in_child(lambda: (channel.close(), "closed")[1])
print("parent:", call(channel), list(stream))
"""
    told = _run(script, server, without_fork_support)
    for line in told[:3]:
        assert "was forked from" in line
        assert "'spawn'" in line
        assert "worker_process_init" in line
    assert told[3:] == ["child: closed", "parent: b'x' [b'repeat 3', b'repeat 3']"]


def test_fork_after_closing(server: ServerElsewhere, environment: dict[str, str]) -> None:
    """When all channels of the parent are closed its children may use new ones."""
    script = """
with channel:
    call(channel)
in_child(lambda: call(sync.Channel("echo", resolver)))
print("parent:", call(sync.Channel("echo", resolver)))
"""
    assert _run(script, server, environment) == ["child: b'x'", "parent: b'x'"]


def test_multiprocessing_fork(server: ServerElsewhere, environment: dict[str, str]) -> None:
    """A pool of forked workers, as Celery's, uses a channel that was made at import."""
    script = """
import multiprocessing

def work(request):
    return call(channel, request)

with multiprocessing.get_context("fork").Pool(2) as pool:
    print(pool.map(work, [b"a", b"b", b"c"]))
"""
    assert _run(script, server, environment) == ["[b'a', b'b', b'c']"]


def test_multiprocessing_fork_after_use(server: ServerElsewhere, without_fork_support: dict[str, str]) -> None:
    """With fork support off a worker that is forked after use, and lives on, gets the RuntimeError and ends well.

    With it unset or 1 nothing is asserted, since nothing is sure: gRPC's own threads may be at work when the process
    forks, and then a child may die by SIGSEGV (7 of 16 in one measurement, 2 of 24 in another), also one that never
    touches gRPC.
    """
    script = """
import multiprocessing

def work():
    time.sleep(0.3)
    try:
        call(channel)
    except RuntimeError as error:
        print("child:", error, flush=True)

call(channel)
child = multiprocessing.get_context("fork").Process(target=work)
child.start()
child.join(20)
print("exit:", child.exitcode)
print("parent:", call(channel))
"""
    told, *after = _run(script, server, without_fork_support)
    assert "was forked from" in told
    assert after == ["exit: 0", "parent: b'x'"]


def test_spawn_after_use(server: ServerElsewhere, tmp_path: Path) -> None:
    """A spawned process has channels of its own, whatever its parent has."""
    program = tmp_path / "program.py"
    program.write_text(
        _BEGIN
        + """
import multiprocessing

def work(request):
    with channel:
        return call(channel, request)

if __name__ == "__main__":
    with channel:
        call(channel)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            print(pool.apply(work, (b"spawned",)), call(channel, b"parent"))
"""
    )
    command = [sys.executable, str(program), _ROOT, server.inside.address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "b'spawned' b'parent'\n")


def test_exit_without_closing(server: ServerElsewhere, environment: dict[str, str]) -> None:
    """A program that ends with channels open and calls in progress ends at once, and quietly."""
    script = """
call(channel)
streams = [channel.unary_stream("/test.Echo/UnaryStream")(b"repeat 1000000") for _ in range(3)]
next(streams[0])
future = channel.unary_unary("/test.Echo/UnaryUnary").future(b"sleep 60")
never = threading.Event()
talk = channel.stream_stream("/test.Echo/StreamStream")(iter(never.wait, None))
def wait():
    try:
        channel.unary_unary("/test.Echo/UnaryUnary")(b"sleep 60", timeout=90)
    except grpc.RpcError:
        pass
threading.Thread(target=wait, daemon=True).start()
time.sleep(0.3)
print("last line", flush=True)
"""
    started = time.monotonic()
    assert _run(script, server, environment) == ["last line"]
    assert time.monotonic() - started < 30  # half of what the calls would take


@pytest.mark.parametrize("sleeps", [True, False], ids=["asleep", "about to sleep"])
@pytest.mark.parametrize(
    "request_", ["call(channel, b'sleep 29')", "next(channel.unary_stream('/test.Echo/UnaryStream')(b'sleep 30'))"]
)
def test_an_interrupt_cancels_the_call(server: ServerElsewhere, request_: str, sleeps: bool) -> None:
    """Ctrl-C during a blocking call, or while waiting for a response, ends it at the server as well."""
    script = f"""
import signal

def interrupt():
    # Python hears of it in this thread, so that the main one is not woken: as by a signal just before it sleeps.
    if sys.stdin.readline():
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts the tests in the background may have it ignored
channel.__enter__()
if not {sleeps}:
    threading.Thread(target=interrupt, daemon=True).start()
print("ready", flush=True)
try:
    {request_}
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.stdin.read()
"""
    server.until(lambda server: server.running == 0)  # what earlier processes left there
    before = server.inside.cancelled
    process = subprocess.Popen(
        [sys.executable, "-c", _BEGIN + script, _ROOT, server.inside.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        server.until(lambda server: server.running == 1)
        if sleeps:
            process.send_signal(signal.SIGINT)
        else:
            assert process.stdin is not None
            process.stdin.write("now\n")
            process.stdin.flush()
        server.until(lambda server: server.running == 0)
        assert server.inside.cancelled == before + 1
        assert process.communicate(timeout=20)[0] == "ready\ninterrupted\n"
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()
