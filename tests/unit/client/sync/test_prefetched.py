"""Responses on their way from the loop to a reader: in order, bounded, and none lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from grpc_balancer.sync.prefetched import AT_MOST, END, LATE, Prefetched


@given(st.lists(st.booleans(), max_size=200))
def test_any_interleaving_is_in_order_and_tells_of_room_once(puts: list[bool]) -> None:
    """Whatever the order of puts and takes, messages keep theirs, and each stop is followed by one word to go on."""
    responses, sent, read, stopped = Prefetched(), 0, 0, False
    for put in puts:
        if put and not stopped:
            stopped = not responses.put(sent)
            sent += 1
        elif not put and read < sent:
            message, room = responses.take(0)
            assert message == read
            read += 1
            assert not room or stopped
            stopped = stopped and not room
        assert sent - read <= AT_MOST
        assert not (stopped and read == sent), "a reader that has read everything must let the stream go on"
    responses.end(discard=False)
    rest = [responses.take(0)[0] for _ in range(sent - read + 2)]
    assert rest == [*range(read, sent), END, END]


def test_a_reader_waits() -> None:
    """It gets what is put later, and learns that its time is over."""
    responses = Prefetched()
    assert responses.take(0.01) == (LATE, False)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(responses.take, 10)
        responses.put("late")
        assert waiting.result(10)[0] == "late"
        waiting = pool.submit(responses.take, 10)
        responses.end(discard=False)
        assert waiting.result(10)[0] is END


def test_what_is_discarded_is_not_read() -> None:
    """After a cancellation nothing comes any more."""
    responses = Prefetched()
    responses.put("x")
    responses.end(discard=True)
    assert responses.take(0)[0] is END
