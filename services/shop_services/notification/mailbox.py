"""A directory of e-mails: the mail server for development writes them, `shop mail` reads them."""

from __future__ import annotations

import secrets
from collections import deque
from datetime import timedelta
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import default
from pathlib import Path

from shop_services.runtime.times import Clock

KEPT = 10_000
"""E-mails that a mailbox keeps at most: the newest."""

_SUFFIX = ".eml"
_ID = "%Y%m%dT%H%M%S.%f"


def mailbox_of(data: Path) -> Path:
    """Where the mailbox of a shop with the data directory `data` is."""
    return data / "mail"


def listed(directory: Path) -> list[Path]:
    """The e-mails in a mailbox, newest first; none if there is no such directory."""
    return sorted(directory.glob(f"[!.]*{_SUFFIX}"), reverse=True)


def read(path: Path, *, headers_only: bool = False) -> EmailMessage:
    """The e-mail in a file. Raises `FileNotFoundError` if it was removed meanwhile."""
    with path.open("rb") as file:
        message: EmailMessage = BytesParser(policy=default).parse(file, headersonly=headers_only)
    return message


class Mailbox:
    """Adds e-mails to a directory, for one writer at a time. The files' names sort by time, and are their ids.

    Raises:
        OSError: the directory cannot be made, or not be read.
    """

    def __init__(self, directory: Path, clock: Clock, kept: int = KEPT) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # it holds names and addresses
        for half in directory.glob(f".*{_SUFFIX}"):  # of a writer that was killed
            half.unlink(missing_ok=True)
        self._directory = directory
        self._clock = clock
        self._kept = kept
        self._latest = clock()
        self._paths = deque(reversed(listed(directory)))
        self._remove_oldest()

    def add(self, content: bytes) -> str:
        """Keep an e-mail, whole or not at all, and return its id. Raises `OSError` if it cannot be written."""
        path = self._next()
        half = self._directory / f".{secrets.token_hex(8)}{_SUFFIX}"
        try:
            half.write_bytes(content)
            half.rename(path)
        except OSError:
            half.unlink(missing_ok=True)
            raise
        self._paths.append(path)
        self._remove_oldest()
        return path.stem

    def _next(self) -> Path:
        """The file of the next e-mail: named by the time, and after those before it if the clock stands still."""
        while True:
            self._latest = max(self._clock(), self._latest + timedelta(microseconds=1))
            path = self._directory / f"{self._latest.strftime(_ID)}{_SUFFIX}"
            if not path.exists():
                return path

    def _remove_oldest(self) -> None:
        while len(self._paths) > self._kept:
            self._paths.popleft().unlink(missing_ok=True)
