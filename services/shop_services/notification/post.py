"""Handing e-mails to a mail server, by SMTP.

What the server answers decides what becomes of an e-mail. It is tried again if the server is away, is slow, says 4xx,
or refuses us before it knows what we send (greeting, TLS, login). A recipient refused for good (5xx to RCPT) gets
nothing: a wrong address is no failure of the shop. Other 5xx are about the e-mail or its sender: somebody must look.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Protocol, Self
from urllib.parse import unquote, urlsplit

import aiosmtplib
from aiosmtplib import SMTPDataError, SMTPException, SMTPRecipientsRefused, SMTPResponseException, SMTPSenderRefused

from shop_services.notification.domain import one_line
from shop_services.runtime.errors import Unavailable
from shop_services.runtime.settings import SettingError

TIMEOUT = 30.0
"""Seconds that handing in one e-mail may take: connecting, TLS, login and the server's answer to the content."""
_GOODBYE = 2.0
_ADDRESS = re.compile(r"\S+@\S+")


class RecipientRefused(Exception):
    """This recipient can never be written to. The message is safe to log: it has no address in it."""


class MailRefused(Exception):
    """The server will never take this e-mail. The message is safe to log: it has no address in it."""


class Post(Protocol):
    """Takes e-mails to deliver."""

    async def send(self, message: EmailMessage, recipient: str) -> None:
        """Return when `message` was taken. After `Unavailable` it may have been, too.

        Raises:
            RecipientRefused: the recipient's address is refused for good.
            MailRefused: the e-mail is refused for good.
            Unavailable: try again later.
        """


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where e-mails are handed in: with `tls` from the beginning, or with `starttls`, or unencrypted."""

    host: str
    port: int | None
    tls: bool
    starttls: bool
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)

    @classmethod
    def of(cls, url: str) -> Self:
        """What `smtp://[user:password@]host[:port][?starttls]` or `smtps://…` names; `Settings` has checked its form.

        A password is never sent unencrypted: with one, STARTTLS is a must. The default ports are 25, 587 with STARTTLS,
        and 465 with TLS.

        Raises:
            SettingError: it asks for TLS and for STARTTLS.
        """
        parts = urlsplit(url)
        tls = parts.scheme == "smtps"
        if tls and parts.query:
            raise SettingError("SHOP_SMTP_URL", "smtps:// encrypts from the beginning, so it takes no ?starttls")
        username = None if parts.username is None else unquote(parts.username)
        password = None if parts.password is None else unquote(parts.password)
        starttls = not tls and (parts.query == "starttls" or username is not None)
        return cls(parts.hostname or "", parts.port, tls, starttls, username, password)


class SmtpPost:
    """`Post` by SMTP, with a connection for each e-mail. `timeout` is in seconds.

    A server that encrypts must have a certificate of an authority that this machine trusts, or of one in `ca`.
    """

    def __init__(self, server: MailServer, sender: str, timeout: float = TIMEOUT, *, ca: Path | None = None) -> None:
        self._server = server
        self._sender = sender
        self._timeout = timeout
        self._tls = ssl.create_default_context()
        if ca is not None:
            self._tls.load_verify_locations(ca)

    async def send(self, message: EmailMessage, recipient: str) -> None:
        smtp = aiosmtplib.SMTP(
            hostname=self._server.host,
            port=self._server.port,
            username=self._server.username,
            password=self._server.password,
            use_tls=self._server.tls,
            start_tls=self._server.starttls,
            tls_context=self._tls,
            timeout=self._timeout,
            local_hostname=socket.gethostname(),  # or it would look itself up in the DNS, for each e-mail
        )
        try:
            async with asyncio.timeout(self._timeout):
                await smtp.connect()
                await smtp.sendmail(self._sender, [recipient], message.as_bytes())
            with suppress(SMTPException, OSError):  # it was taken, however the server says goodbye
                await smtp.quit(timeout=_GOODBYE)
        except TimeoutError as error:
            raise Unavailable(f"the mail server did not answer within {self._timeout:g} s") from error
        except SMTPException as error:
            raise _meant(error) from None  # its text may hold the address
        except OSError as error:
            raise Unavailable(f"the mail server cannot be used: {error}") from error
        finally:
            smtp.close()


def _meant(error: SMTPException) -> RecipientRefused | MailRefused | Unavailable:
    if isinstance(error, SMTPRecipientsRefused):
        refused = error.recipients[0]
        if refused.code >= 500:
            return RecipientRefused(_said("the recipient", refused))
        return Unavailable(_said("the recipient", refused))
    if isinstance(error, SMTPSenderRefused | SMTPDataError):
        what = "the sender" if isinstance(error, SMTPSenderRefused) else "the e-mail"
        return MailRefused(_said(what, error)) if error.code >= 500 else Unavailable(_said(what, error))
    if isinstance(error, SMTPResponseException):
        return Unavailable(_said("us", error))
    return Unavailable(f"the mail server cannot be used: {_safe(error.message)}")


def _said(what: str, error: SMTPResponseException) -> str:
    return f"the mail server refuses {what}: {error.code} {_safe(error.message)}"


def _safe(text: str) -> str:
    """`text` in one line, short, and without e-mail addresses."""
    return _ADDRESS.sub("…", one_line(text))[:200]
