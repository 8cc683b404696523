"""How pending states get into the database: several in one transaction, each once, whoever writes them, how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from shop_services.product import inventory_storage, storage
from shop_services.product.domain import Change, ChangeType, Product
from shop_services.product.pending import Pending, Step, step
from shop_services.product.pending_messages import Written
from shop_services.storage import KeptReply, Replies


@dataclass(frozen=True, slots=True)
class Result:
    """What writing a state came to: the note that it leaves, and the change of the catalog, if it made one."""

    note: Written
    change: Change | None


async def write(
    connection: AsyncConnection, states: Sequence[Pending], replies: Replies, keep: int
) -> Sequence[Result]:
    """Write the states of several products, as changes of the catalog in that order, and the replies that they carry.

    All changes of the catalog take turns (see `storage.py`), so the rows stay as they are found here.
    """
    number = await storage.next_revision(connection)
    rows = await storage.get_many(connection, [state.product.id for state in states])
    results: list[Result] = []
    kept: list[KeptReply] = []
    for state in states:
        row = rows.get(state.product.id)
        match step(state, row):
            case (Step.UPDATE | Step.DELETE) as todo if row is not None:
                change = await _change(connection, todo, state, row, number)
                await storage.record(connection, change, keep)
                categories = frozenset((state.product.category, row.category))
                results.append(Result(_note(state, number, categories), change))
                number += 1
            case done:
                results.append(Result(_note(state, number - 1, None, in_place=done is Step.IN_PLACE), None))
        if results[-1].note.in_place:
            kept.extend(state.replies)
    await replies.keep(connection, kept)
    return results


async def _change(connection: AsyncConnection, todo: Step, state: Pending, row: Product, number: int) -> Change:
    if todo is Step.UPDATE:
        await storage.update(connection, state.product)
        return Change(number, ChangeType.UPDATED, state.product, row.category)
    await storage.delete(connection, row.id)
    await inventory_storage.delist(connection, row.id)
    return Change(number, ChangeType.DELETED, row)  # as the catalog last was for those who watch it


def _note(state: Pending, number: int, categories: frozenset[str] | None, *, in_place: bool = True) -> Written:
    return Written(number, categories, state.product.revision, state.deleted, in_place)
