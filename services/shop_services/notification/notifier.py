"""What is done about an order that has ended: one e-mail, sent at least once.

The e-mail is recorded together with its message's id, then sent, then marked as sent. Whoever dies after recording it
leaves it PENDING, and the message comes again and sends it. Nothing can make sending and marking one step, so an e-mail
may arrive twice: with the same Message-ID and the same bytes, for mail servers and people to recognise.
"""

from __future__ import annotations

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from shop.events.v1.events_pb2 import Envelope
from shop_services.messaging.bus import Reject
from shop_services.messaging.inbox import AlreadyHandled, Inbox
from shop_services.messaging.retry import RetryPolicy
from shop_services.notification import storage
from shop_services.notification.domain import KIND, Ending, Mail, Recipient, State, message_id
from shop_services.notification.letters import UnfitAddress, subject_of, write
from shop_services.notification.messages import ending_of
from shop_services.notification.post import MailRefused, Post, RecipientRefused
from shop_services.notification.upstream import Users
from shop_services.runtime.errors import AlreadyExists, NotFound, Unavailable
from shop_services.runtime.times import Clock
from shop_services.storage import Database

RETRIES = RetryPolicy(attempts=20, first=1.0, longest=300.0)
"""Mail servers ask to be tried again after minutes (greylisting), and are away for as long: it goes on for an hour."""

NO_ACCOUNT = "the account was closed"

_log = structlog.get_logger(__name__)


class Notifier:
    """Sends the e-mails about orders, from the address `sender`."""

    def __init__(self, database: Database, inbox: Inbox, users: Users, post: Post, sender: str, clock: Clock) -> None:
        self._database = database
        self._inbox = inbox
        self._users = users
        self._post = post
        self._sender = sender
        self._clock = clock

    async def handle(self, envelope: Envelope) -> None:
        """Return when the e-mail about the order of an `order.ended` was sent, or will never be.

        Raises:
            Reject: the message makes no sense, or the mail server will never take the e-mail.
            Unavailable: users, the database or the mail server cannot be asked now.
        """
        ending = ending_of(envelope)
        mail = await self._known(ending.order_id) or await self._recorded(ending, envelope.id)
        if mail.state is State.PENDING:
            await self._send(mail, ending)

    async def _known(self, order_id: str) -> Mail | None:
        """The e-mail that an earlier delivery recorded; if it is pending, another attempt at it begins."""
        async with self._database.reading() as connection:
            mail = await storage.find(connection, order_id)
        if mail is None or mail.state is not State.PENDING:
            return mail
        return await self._database.atomically(lambda connection: storage.begin(connection, order_id))

    async def _recorded(self, ending: Ending, envelope_id: str) -> Mail:
        """The e-mail, recorded with the message's id. Its first attempt begins with it."""
        recipient = await self._users.find(ending.user_id)
        mail = Mail(
            order_id=ending.order_id,
            recipient=recipient or Recipient("", ""),
            subject=subject_of(ending),
            message_id=message_id(ending.order_id, self._sender),
            state=State.SKIPPED if recipient is None else State.PENDING,
            attempts=0 if recipient is None else 1,
            reason=NO_ACCOUNT if recipient is None else "",
            create_time=self._clock(),
        )

        async def work(connection: AsyncConnection) -> None:
            await self._inbox.claim(connection, envelope_id)
            await storage.insert(connection, mail)

        try:
            await self._database.atomically(work)
        except (AlreadyHandled, AlreadyExists):  # by another delivery, meanwhile
            known = await self._known(ending.order_id)
            if known is None:
                raise NotFound(KIND, ending.order_id) from None
            return known
        if mail.state is State.SKIPPED:
            _log.info("mail_skipped", order_id=mail.order_id, reason=mail.reason)
        return mail

    async def _send(self, mail: Mail, ending: Ending) -> None:
        order_id = mail.order_id
        try:
            await self._post.send(write(mail, ending, self._sender), mail.recipient.address)
        except (UnfitAddress, RecipientRefused) as error:
            reason = str(error)
            await self._database.atomically(lambda connection: storage.skip(connection, order_id, reason))
            _log.warning("mail_skipped", order_id=order_id, reason=reason)
        except (Unavailable, MailRefused) as error:
            reason = str(error)
            await self._database.atomically(lambda connection: storage.note(connection, order_id, reason))
            if isinstance(error, MailRefused):
                raise Reject(reason) from None
            raise
        else:
            now = self._clock()
            await self._database.atomically(lambda connection: storage.sent(connection, order_id, now))
            _log.info("mail_sent", order_id=order_id, message_id=mail.message_id, outcome=ending.outcome)
