"""An answer's head waits for its body, but not for long."""

from __future__ import annotations

import asyncio

import pytest

from shop_services.gateway.joining import Joining


class Transport(asyncio.Transport):
    """Keeps what is written, write by write."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def _joining(transport: Transport, *, bodiless: bool = False, unchunked: bool = False) -> Joining:
    loop = asyncio.get_running_loop()
    return Joining(transport, loop, transport.close, bodiless=bodiless, unchunked=unchunked)


@pytest.fixture
def transport() -> Transport:
    return Transport()


async def test_a_head_and_its_body_are_one_write(transport: Transport) -> None:
    """What is written in the same step as the head goes out with it."""
    joining = _joining(transport)
    joining.write(b"head ")
    joining.write(b"body")
    await asyncio.sleep(0)
    assert transport.written == [b"head body"]


async def test_a_head_alone_is_not_kept(transport: Transport) -> None:
    """A head without a body, as a stream's is at first, goes out when the loop gets to it; then nothing is held."""
    joining = _joining(transport)
    joining.write(b"head")
    assert transport.written == []
    await asyncio.sleep(0)
    assert transport.written == [b"head"]
    joining.write(b"one")
    joining.write(b"two")
    assert transport.written == [b"head", b"one", b"two"]


async def test_a_head_goes_out_before_the_connection_closes(transport: Transport) -> None:
    """`close` loses nothing that was written."""
    joining = _joining(transport)
    joining.write(b"head")
    joining.close()
    assert transport.written == [b"head"]
    assert joining.is_closing()


async def test_nothing_is_written_to_a_connection_that_was_closed(transport: Transport) -> None:
    """A head that waits for its body is dropped when somebody else has closed the connection."""
    joining = _joining(transport)
    joining.write(b"head")
    transport.close()
    await asyncio.sleep(0)
    assert transport.written == []


async def test_the_head_of_an_answer_without_a_body_is_not_held(transport: Transport) -> None:
    """The answer to a HEAD is on its way before any other that may be written in the same step."""
    _joining(transport, bodiless=True).write(b"head")
    assert transport.written == [b"head"]


async def test_chunks_are_taken_off_for_who_does_not_know_them(transport: Transport) -> None:
    """The head does not tell of them, and the body is what was in them; an answer of a known length stays as it is."""
    joining = _joining(transport, unchunked=True)
    joining.write(b"HTTP/1.1 200 OK\r\na: b\r\ntransfer-encoding: chunked\r\n\r\n")
    joining.write(b"c\r\none\r\ntwo\r\n\r\n\r\n")
    joining.write(b"1\r\n3\r\n0\r\n\r\n")
    joining.write(b"0\r\n\r\n")
    assert b"".join(transport.written) == b"HTTP/1.1 200 OK\r\na: b\r\n\r\none\r\ntwo\r\n\r\n3"
    other = Transport()
    joining = _joining(other, unchunked=True)
    joining.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
    joining.write(b"1\r\n2\r\n3\r\n")
    assert b"".join(other.written) == b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n1\r\n2\r\n3\r\n"
