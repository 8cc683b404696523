"""What becomes of an e-mail with each answer that a real SMTP server can give."""

from __future__ import annotations

import asyncio
import ssl
from email.message import EmailMessage
from pathlib import Path

import pytest

from shop_services.notification.letters import write
from shop_services.notification.post import MailRefused, MailServer, RecipientRefused, SmtpPost
from shop_services.runtime.errors import Unavailable
from tests.authority import Authority
from tests.integration.notification.mail_server import SILENCE, mail_server
from tests.servers import free_port
from tests.unit.services.notification.orders import SENDER, ending, mail

ANN = "ann@example.com"


def letter() -> EmailMessage:
    about = ending()
    return write(mail(about), about, SENDER)


def post_to(port: int, timeout: float = 10, url: str = "smtp://127.0.0.1:{}") -> SmtpPost:
    return SmtpPost(MailServer.of(url.format(port)), SENDER, timeout)


async def test_an_e_mail_is_handed_in() -> None:
    """The server gets the e-mail as it was written, for its recipient."""
    async with mail_server() as (server, port):
        await post_to(port).send(letter(), ANN)
    assert server.recipients == [ANN]
    assert server.contents == [letter().as_bytes()]


@pytest.mark.parametrize(
    ("command", "answer", "error", "told"),
    [
        ("MAIL", "451 4.3.0 busy", Unavailable, "refuses the sender: 451 4.3.0 busy"),
        ("MAIL", "550 5.7.1 not you", MailRefused, "refuses the sender: 550 5.7.1 not you"),
        ("RCPT", "450 4.2.0 greylisted", Unavailable, "refuses the recipient: 450 4.2.0 greylisted"),
        (
            "RCPT",
            "550 5.1.1 <ann@example.com>: unknown",
            RecipientRefused,
            "refuses the recipient: 550 5.1.1 … unknown",
        ),
        ("DATA", "452 4.3.1 full", Unavailable, "refuses the e-mail: 452 4.3.1 full"),
        ("DATA", "554 5.6.0 spam for ann@example.com", MailRefused, "refuses the e-mail: 554 5.6.0 spam for …"),
        ("DATA", "421 4.3.2 going down", Unavailable, "421 4.3.2 going down"),
    ],
)
async def test_each_answer_means_something(command: str, answer: str, error: type[Exception], told: str) -> None:
    """4xx is tried again, a refused recipient is skipped, other 5xx are given up; no error repeats an address."""
    async with mail_server() as (server, port):
        server.next(command, answer)
        with pytest.raises(error) as caught:
            await post_to(port).send(letter(), ANN)
        assert told in str(caught.value)
        assert ANN not in str(caught.value)
        assert server.mails == []
        await post_to(port).send(letter(), ANN)
    assert len(server.mails) == 1


async def test_a_server_that_is_down_is_tried_again_when_it_is_up() -> None:
    """A refused connection is no verdict on the e-mail."""
    port = free_port()
    with pytest.raises(Unavailable, match="cannot be used"):
        await post_to(port).send(letter(), ANN)
    async with mail_server(port) as (server, _):
        await post_to(port).send(letter(), ANN)
    assert len(server.mails) == 1


@pytest.mark.parametrize("command", ["MAIL", "RCPT", "DATA"])
async def test_a_server_that_hangs_is_left(command: str) -> None:
    """A server that stops answering costs the time limit and no more."""
    async with mail_server() as (server, port):
        server.next(command, SILENCE)
        async with asyncio.timeout(30):
            with pytest.raises(Unavailable, match=r"did not answer within 0.3 s"):
                await post_to(port, timeout=0.3).send(letter(), ANN)


async def test_a_server_that_never_greets_is_left() -> None:
    """The same for one that takes connections and says nothing at all."""

    left = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        await writer.wait_closed()
        left.set()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as silent:
        with pytest.raises(Unavailable, match=r"did not answer within 0.3 s"):
            await post_to(silent.sockets[0].getsockname()[1], timeout=0.3).send(letter(), ANN)
        await left.wait()


async def test_a_goodbye_that_fails_changes_nothing() -> None:
    """Once the server took the e-mail it is sent, also if the connection breaks right then."""
    async with mail_server() as (server, port):

        async def handle_QUIT(smtp: object, *_: object) -> str:
            smtp.transport.abort()  # type: ignore[attr-defined]
            return "221 Bye"

        server.handle_QUIT = handle_QUIT  # type: ignore[attr-defined]
        await post_to(port).send(letter(), ANN)
    assert len(server.mails) == 1


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's certificate from an authority that this process trusts."""
    authority = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.ca))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("localhost"))
    return context


async def test_a_login_is_sent_over_tls(certificate: ssl.SSLContext) -> None:
    """`smtps://` encrypts from the beginning, and logs in with what the URL says."""
    async with mail_server(tls=certificate) as (server, port):
        await post_to(port, url="smtps://localhost:{}").send(letter(), ANN)
    assert len(server.mails) == 1


async def test_a_login_is_sent_after_starttls(certificate: ssl.SSLContext) -> None:
    """With a password in the URL the connection is encrypted before it is sent; percent-encoding is undone."""
    async with mail_server(starttls=certificate, login=True) as (server, port):
        await post_to(port, url="smtp://sh%40p:p%40ss%2Fword@localhost:{}").send(letter(), ANN)
    assert server.logins[0] == (b"sh@p", b"p@ss/word")
    assert server.encrypted == [True]


async def test_a_wrong_password_is_tried_again_and_not_told(certificate: ssl.SSLContext) -> None:
    """A login that is refused says nothing about the e-mail; the error does not hold the password."""
    async with mail_server(starttls=certificate, login=True) as (server, port):
        with pytest.raises(Unavailable) as caught:
            await post_to(port, url="smtp://shop:swordfish@localhost:{}").send(letter(), ANN)
    assert "535" in str(caught.value)
    assert "swordfish" not in str(caught.value)
    assert server.mails == []


@pytest.mark.parametrize("url", ["smtp://shop:swordfish@localhost:{}", "smtp://localhost:{}?starttls"])
async def test_nothing_is_sent_in_the_clear_where_it_must_be_encrypted(url: str) -> None:
    """Without STARTTLS at the server, a password or `?starttls` in the URL keeps everything back."""
    async with mail_server() as (server, port):
        with pytest.raises(Unavailable, match="STARTTLS"):
            await post_to(port, url=url).send(letter(), ANN)
    assert server.mails == []


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    """The server's certificate is checked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority(tmp_path).issue("localhost"))
    async with mail_server(tls=context) as (server, port):
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            await post_to(port, url="smtps://localhost:{}").send(letter(), ANN)
    assert server.mails == []
