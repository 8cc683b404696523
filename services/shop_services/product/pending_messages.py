"""Pending states as records of the log, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from shop.events.v1 import catalog_pb2 as pb
from shop_services.product.domain import Product
from shop_services.product.pending import Pending
from shop_services.runtime.money import Money
from shop_services.runtime.times import to_timestamp
from shop_services.storage import KeptReply


class Unreadable(ValueError):
    """A record that this code did not write."""


@dataclass(frozen=True, slots=True)
class Written:
    """The note that a pending state leaves in the log when there is nothing left to write.

    The change `number` of the catalog wrote it, and touched the lists of `categories`. If these are None, it is not
    known which change that was, but none after `number`. `revision` and `deleted` are those of the state. It is
    `in_place` unless the row was changed by someone who does not know the log.
    """

    number: int
    categories: frozenset[str] | None
    revision: int
    deleted: bool
    in_place: bool

    def tells(self, state: Pending) -> bool:
        """Whether the database has `state`, according to this note."""
        return self.in_place and (self.revision, self.deleted) == (state.product.revision, state.deleted)


def dump(pending: Pending) -> bytes:
    """The record of `pending`."""
    product = pending.product
    content = pb.PendingContent(
        id=product.id,
        sku=product.sku,
        name=product.name,
        description=product.description,
        category=product.category,
        currency=product.price.currency,
        price_hundredths=product.price.hundredths,
        create_time=to_timestamp(product.create_time),
        update_time=to_timestamp(product.update_time),
        position=product.position,
        revision=product.revision,
    )
    replies = map(_dump_reply, pending.replies)
    message = pb.PendingProduct(product=content, deleted=pending.deleted, replaces=pending.replaces, replies=replies)
    return message.SerializeToString()


def load(record: bytes) -> Pending:
    """The pending state in `record`. Raises `Unreadable`."""
    try:
        message = pb.PendingProduct.FromString(record)
        content = message.product
        product = Product(
            id=content.id,
            sku=content.sku,
            name=content.name,
            description=content.description,
            category=content.category,
            price=Money(content.currency, content.price_hundredths),
            create_time=_time(content.create_time),
            update_time=_time(content.update_time),
            position=content.position,
            revision=content.revision,
        )
    except (DecodeError, ValueError) as error:  # ValueError: of an amount or a time that is none
        raise Unreadable(str(error)) from error
    return Pending(product, message.deleted, tuple(message.replaces), tuple(_load_replies(message.replies)))


def dump_note(written: Written) -> bytes:
    """The note of `written`."""
    note = pb.WrittenProduct(
        catalog_revision=written.number,
        categories=sorted(written.categories or ()),
        revision=written.revision,
        deleted=written.deleted,
        in_place=written.in_place,
    )
    return note.SerializeToString()


def load_note(note: bytes) -> Written:
    """What `note` says. Raises `Unreadable`."""
    try:
        message = pb.WrittenProduct.FromString(note)
    except DecodeError as error:
        raise Unreadable(str(error)) from error
    categories = frozenset(message.categories) or None
    return Written(message.catalog_revision, categories, message.revision, message.deleted, message.in_place)


def _dump_reply(kept: KeptReply) -> pb.PendingReply:
    return pb.PendingReply(
        request_type=kept.request_type,
        request_id=kept.request_id,
        fingerprint=kept.fingerprint,
        reply=kept.reply,
        create_time=to_timestamp(kept.create_time),
    )


def _load_replies(replies: Iterable[pb.PendingReply]) -> Iterable[KeptReply]:
    for kept in replies:
        time = _time(kept.create_time)
        yield KeptReply(kept.request_type, kept.request_id, kept.fingerprint, kept.reply, time)


def _time(timestamp: Timestamp) -> datetime:
    return timestamp.ToDatetime(tzinfo=UTC)
