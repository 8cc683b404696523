"""A real SMTP server in the test's process, which takes e-mails, and refuses or says nothing where it is told to."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

SILENCE = ""
"""An answer that never comes."""


def _nothing() -> None:
    return


@dataclass
class MailServer:
    """What the server took: `mails`, with `recipients`. The next answers to MAIL, RCPT and DATA come from `answers`."""

    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    contents: list[bytes] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)
    answers: dict[str, deque[str]] = field(default_factory=dict)
    taken: Callable[[], object] = _nothing
    """Called for each e-mail, before the server says that it took it."""

    def next(self, command: str, *answers: str) -> None:
        """What to say to the next such commands, one after another; later ones succeed."""
        self.answers[command] = deque(answers)

    async def handle_MAIL(self, _s: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any) -> str:
        envelope.mail_from = address
        return await self._answer("MAIL")

    async def handle_RCPT(self, _s: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any) -> str:
        answer = await self._answer("RCPT")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, _s: SMTP, session: Session, envelope: Envelope) -> str:
        answer = await self._answer("DATA")
        if answer.startswith("250"):
            content = envelope.original_content
            assert content is not None
            self.contents.append(content)
            self.mails.append(message_from_bytes(content, policy=default))
            self.recipients += envelope.rcpt_tos
            self.encrypted.append(session.ssl is not None)
            self.taken()
        return answer

    async def _answer(self, command: str) -> str:
        waiting = self.answers.get(command)
        answer = waiting.popleft() if waiting else "250 OK"
        if answer == SILENCE:
            await asyncio.Event().wait()
        return answer

    def log_in(self, _s: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: LoginPassword) -> Any:
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"p@ss/word", handled=False)


@asynccontextmanager
async def mail_server(
    port: int = 0, *, tls: ssl.SSLContext | None = None, starttls: ssl.SSLContext | None = None, login: bool = False
) -> AsyncIterator[tuple[MailServer, int]]:
    """A server on the loopback, and its port: with TLS from the beginning, or after STARTTLS, or without."""
    server = MailServer()
    loop = asyncio.get_running_loop()
    sessions: list[SMTP] = []

    def session() -> SMTP:
        authenticator = server.log_in if login else None
        one = SMTP(
            server, hostname="test", loop=loop, tls_context=starttls, authenticator=authenticator, auth_required=login
        )
        sessions.append(one)
        return one

    listening = await loop.create_server(session, "127.0.0.1", port, ssl=tls)
    try:
        yield server, listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for one in sessions:
            if one.transport is not None:
                one.transport.close()
        talks = [one._handler_coroutine for one in sessions if one._handler_coroutine is not None]
        await asyncio.gather(*talks, return_exceptions=True)
