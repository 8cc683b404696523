"""`python -m shop_services.notification.sink`: a mail server for development. It takes every e-mail, delivers none, and
keeps each as a file below `SHOP_DATA/mail`, for `shop mail` to show.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakSet

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session

from shop_services.notification.mailbox import Mailbox, mailbox_of
from shop_services.runtime import logs
from shop_services.runtime.app import StartError
from shop_services.runtime.serve import run_process
from shop_services.runtime.settings import SettingError, Settings
from shop_services.runtime.times import utc_now
from shop_services.runtime.tls import server_tls

NAME = "mail-sink"
CERTIFICATE = "mail"
PORT = 1025
"""Where it listens if SHOP_PORT does not say."""
MAX_BYTES = 1024 * 1024
"""Bytes that an e-mail may have."""
_IDLE = 60.0

_log = structlog.get_logger(__name__)


class Sink:
    """What aiosmtpd calls for each e-mail."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._turn = asyncio.Lock()  # a mailbox has one writer at a time

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - its hook
        """Keep the e-mail, below what it was handed in with, as a mailbox does (RFC 5321, 4.4; RFC 9228)."""
        handed_in = [f"Return-Path: <{envelope.mail_from}>", *(f"Delivered-To: {one}" for one in envelope.rcpt_tos)]
        head = "".join(f"{line}\r\n" for line in handed_in).encode("utf-8", "surrogateescape")
        content = envelope.original_content or b""
        try:
            async with self._turn:
                mail = await asyncio.to_thread(self._mailbox.add, head + content)
        except OSError as error:
            _log.error("mail_not_kept", error=str(error))
            return "452 4.3.1 It cannot be written now; try again later"
        _log.info("mail_kept", mail=mail, bytes=len(content))
        return "250 2.0.0 Kept"


@asynccontextmanager
async def receiving(mailbox: Mailbox, host: str, port: int, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve SMTP on `host` inside of the block, and yield the port. Raises `OSError` if it cannot be bound.

    With `tls` it is encrypted from the beginning.
    """
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd's: at info it writes addresses
    sink = Sink(mailbox)
    loop = asyncio.get_running_loop()
    sessions: WeakSet[SMTP] = WeakSet()

    def session() -> SMTP:
        # Named, or it would look up its own name in the DNS for each connection.
        made = SMTP(sink, hostname=NAME, loop=loop, data_size_limit=MAX_BYTES, enable_SMTPUTF8=True, timeout=_IDLE)
        sessions.add(made)
        return made

    server = await loop.create_server(session, host, port, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for one in list(sessions):
            if one.transport is not None:
                one.transport.close()
        await server.wait_closed()


async def serve(settings: Settings) -> None:
    """Take e-mails until SIGTERM or SIGINT.

    Raises:
        SettingError: nothing can be bound to the address.
        StartError: the mailbox cannot be written.
    """
    logs.configure(NAME, settings.instance_id, settings.log_level)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    directory = mailbox_of(settings.data)
    try:
        mailbox = Mailbox(directory, utc_now)
    except OSError as error:
        raise StartError(f"SHOP_DATA: cannot keep e-mails in {directory}: {error.strerror}") from None
    async with AsyncExitStack() as stack:
        try:
            tls = server_tls(settings, CERTIFICATE, require_client_cert=False)
            port = await stack.enter_async_context(receiving(mailbox, settings.host, settings.port, tls=tls))
        except OSError:
            raise SettingError("SHOP_PORT", f"cannot bind {settings.bind}: in use, or not an address of ours") from None
        _log.info("listening", address=settings.address(port), directory=str(directory))
        await stop.wait()
    _log.info("stopped")


if __name__ == "__main__":
    sys.exit(run_process(NAME, serve, port=PORT))
