"""The worker with a real database, a real user service and real SMTP servers, when these fail and when they do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from shop.events.v1.events_pb2 import Envelope
from shop_services.notification import storage
from shop_services.notification.domain import Outcome, State
from shop_services.notification.mailbox import Mailbox, listed, read
from shop_services.notification.notifier import NO_ACCOUNT
from shop_services.notification.sink import receiving
from shop_services.runtime.settings import Settings
from shop_services.runtime.times import utc_now
from tests.integration.notification.mail_server import MailServer, mail_server
from tests.integration.notification.office import SECONDS, Office, open_office
from tests.integration.order.shop import create_user
from tests.servers import free_port
from tests.unit.services.notification.orders import ended, ending
from tests.watching import ids, until


@pytest.fixture
async def server() -> AsyncIterator[tuple[MailServer, int]]:
    async with mail_server() as made:
        yield made


@pytest.fixture
async def office(settings: Settings, server: tuple[MailServer, int]) -> AsyncIterator[Office]:
    async with open_office(settings, server[1]) as made:
        yield made


async def test_every_outcome_reaches_the_sink(settings: Settings, tmp_path: Path) -> None:
    """Orders that ended in each way become e-mails in the development mail server's directory, to their users."""
    mails = tmp_path / "mail"
    async with receiving(Mailbox(mails, utc_now), "127.0.0.1", 0) as port, open_office(settings, port) as office:
        bob = await create_user(office.registry, "bob")
        for outcome in Outcome:
            user = bob if outcome is Outcome.FAILED else office.ann
            about = ending(order_id=outcome.lower(), user_id=user, outcome=outcome, reason="timed out")
            await office.tell(ended(about))
            await office.mail(about.order_id, State.SENT)
    arrived = {read(path)["Message-ID"]: read(path) for path in listed(mails)}
    assert {message_id: message["To"] for message_id, message in arrived.items()} == {
        "<order-fulfilled@shop.example>": "ann@example.com",
        "<order-failed@shop.example>": "bob@example.com",
        "<order-cancelled@shop.example>": "ann@example.com",
    }
    receipt = arrived["<order-fulfilled@shop.example>"].get_body(("plain",))
    assert receipt is not None
    assert "2 x Pen: 5.00 EUR" in receipt.get_content()


async def test_a_closed_account_is_skipped(office: Office, server: tuple[MailServer, int]) -> None:
    """The user service says that there is no such user any more: no e-mail, and no dead letter."""
    await office.delete_user(office.ann)
    await office.tell(ended(ending(user_id=office.ann)))
    assert (await office.mail("o1", State.SKIPPED)).reason == NO_ACCOUNT
    assert server[0].mails == []
    assert office.bus.dead_letters == []


async def test_a_mail_server_may_be_down_at_first(settings: Settings) -> None:
    """What could not be handed in is handed in once the server is up."""
    port = free_port()
    async with open_office(settings, port) as office:
        await office.tell(ended(ending(user_id=office.ann)))
        async with asyncio.timeout(SECONDS):
            # The first one has failed then.
            while (await office.mail("o1", State.PENDING)).attempts < 2:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.02)
        async with mail_server(port) as (server, _):
            mail = await office.mail("o1", State.SENT)
    assert mail.attempts >= 2
    assert [message["Message-ID"] for message in server.mails] == ["<order-o1@shop.example>"]


async def test_a_mail_server_may_ask_to_be_tried_again(office: Office, server: tuple[MailServer, int]) -> None:
    """Greylisting delays the e-mail, and it is sent once."""
    server[0].next("RCPT", "450 4.2.0 greylisted")
    await office.tell(ended(ending(user_id=office.ann)))
    mail = await office.mail("o1", State.SENT)
    assert (mail.attempts, mail.reason) == (2, "")
    assert server[0].recipients == ["ann@example.com"]


async def test_a_refused_recipient_is_skipped(office: Office, server: tuple[MailServer, int]) -> None:
    """The reason is kept with the e-mail, and the next one is sent."""
    server[0].next("RCPT", "550 5.1.1 no such user")
    await office.tell(ended(ending(user_id=office.ann)))
    mail = await office.mail("o1", State.SKIPPED)
    assert mail.reason == "the mail server refuses the recipient: 550 5.1.1 no such user"
    await office.tell(ended(ending(order_id="o2", user_id=office.ann)))
    await office.mail("o2", State.SENT)
    assert office.bus.dead_letters == []


@pytest.mark.parametrize("command", ["MAIL", "DATA"])
async def test_a_refused_mail_is_a_dead_letter(office: Office, server: tuple[MailServer, int], command: str) -> None:
    """An e-mail that the server will never take is given up, with what the server said."""
    server[0].next(command, "554 5.7.1 policy")
    await office.tell(ended(ending(user_id=office.ann)))
    assert (await office.given_up()).endswith("554 5.7.1 policy")
    assert (await office.mail("o1", State.PENDING)).reason.endswith("554 5.7.1 policy")
    assert server[0].mails == []


async def test_deliveries_at_the_same_time_make_one_mail(settings: Settings, server: tuple[MailServer, int]) -> None:
    """Workers that are told of one order at once record one e-mail; what is sent more than once is the same."""
    async with open_office(replace(settings, concurrency=4), server[1]) as office:
        for number in range(12):
            await office.tell(ended(ending(user_id=office.ann), id=f"m{number}"))
        await office.idle()
        await office.mail("o1", State.SENT)
        async with office.database.reading() as connection:
            assert len((await connection.execute(sa.select(storage.mails))).all()) == 1
    assert len(set(server[0].contents)) == 1
    assert office.bus.dead_letters == []


async def test_a_message_without_sense_is_a_dead_letter(office: Office) -> None:
    """It is given up at once, with the reason."""
    await office.tell(Envelope(id="m1", type="order.ended", order_id="o1"))
    assert await office.given_up() == "the body is no OrderEnded but ''"


async def test_the_worker_is_registered_and_drains(office: Office, server: tuple[MailServer, int]) -> None:
    """It is an instance like every other, and once it drains it leaves messages to others."""
    async with aclosing(office.registry.watch("notifications-worker")) as watch:
        assert len(ids(await until(watch, lambda snapshot: bool(snapshot.instances)))) == 1
    await office.app.drain()
    await office.tell(ended(ending(user_id=office.ann)))
    await office.app.drain()
    assert server[0].mails == []
