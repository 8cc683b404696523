"""How much one request and one answer may hold."""

from __future__ import annotations

from shop_services.runtime.errors import ResourceExhausted

MAX_ANSWER = 4 * 1024 * 1024
"""Bytes of a message that a client takes unless it was told otherwise: gRPC's `max_receive_message_length`."""
MAX_REQUEST = 4 * 1024 * 1024
"""Bytes of a request: many values are written at once. Only services and admins do that."""
_FRAMING = 8
"""Bytes that an element of a message takes around itself, at most."""


class AnswerSize:
    """Counts what goes into an answer, and refuses what a client's own gRPC would refuse without a word about keys."""

    def __init__(self) -> None:
        self._bytes = 0

    def add(self, element: int) -> None:
        """One more element of so many bytes.

        Raises:
            ResourceExhausted: the answer is too large with it.
        """
        self._bytes += element + _FRAMING
        if self._bytes > MAX_ANSWER:
            raise answer_too_large()


def answer_too_large() -> ResourceExhausted:
    """What a caller is told who asked for more values than fit into an answer."""
    why = f"the values found do not fit into a message of {MAX_ANSWER:,} bytes: ask for fewer keys at once"
    return ResourceExhausted("message", why)
