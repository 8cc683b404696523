"""The judge of a server's process: what it takes for a leak, and for a defect in a log."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from fuzzing import frames, http
from fuzzing.found import Finding, inputs_of
from fuzzing.wire.conversation import Conversation, Ending
from fuzzing.wire.server import Census, WatchedServer

REST = Census({"socket": 3}, 100, 100, {"serve": 1})


def test_more_of_anything_is_a_leak() -> None:
    """A file or a task that was not there before is told; fewer of them, or more memory, is not."""
    assert REST.more_than(REST) == ""
    assert Census({"socket": 2}, 900, 900, {}).more_than(REST) == ""
    more = Census({"socket": 5, "pipe": 1}, 100, 100, {"serve": 1, "stream": 7}).more_than(REST)
    assert more == "1 files pipe, 2 files socket, 7 tasks stream"


@pytest.mark.parametrize(
    ("line", "defect"),
    [
        ('{"level": "info", "event": "rpc", "code": "INVALID_ARGUMENT"}', False),
        ('{"level": "error", "event": "rpc", "code": "INTERNAL"}', True),
        ('{"level": "error", "event": "unhandled_exception"}', True),
        ("Traceback (most recent call last):", True),
        ("Fatal Python error: Segmentation fault", True),
        ("E1123 07:09:18.774374   21552 hpack_parser.cc:1048] Error parsing ':status' metadata: not an integer", False),
    ],
)
def test_a_defect_is_told_by_the_log(line: str, defect: bool, tmp_path: Path) -> None:
    """What no input may cause is found in the log, once; what a peer did wrong is no defect."""
    server = WatchedServer("none", tmp_path, {})
    server.log.write_text(f"{line}\n")
    assert server.defects() == ([line] if defect else [])
    assert server.defects() == []


@pytest.mark.parametrize("make", [frames.Frames(), http.make], ids=["frames", "http"])
def test_conversations_follow_from_the_seed(make: frames.Frames) -> None:
    """The same random numbers make the same conversation, to the byte, and a file keeps it."""
    for number in range(100):
        conversation = make(Random(number))
        assert make(Random(number)) == conversation
        assert Conversation.of(conversation.json()) == conversation


def test_what_stands_for_a_token_is_replaced() -> None:
    """A conversation is told with what is known of the servers that it is had with."""
    conversation = Conversation("x", (b"a @@ b", b"@@"), Ending.HALF)
    assert conversation.told({b"@@": b"secret"}).pieces == (b"a secret b", b"secret")


def test_a_finding_is_kept(tmp_path: Path) -> None:
    """A finding with inputs becomes a file that gives them back; the same one is kept once."""
    finding = Finding("good call", "failed", [Conversation("x", (b"\xff",)).json()])
    path = finding.keep(tmp_path)
    assert path is not None
    assert finding.keep(tmp_path) == path
    assert inputs_of(path) == list(finding.inputs)
    assert Finding("memory", "grew").keep(tmp_path) is None
