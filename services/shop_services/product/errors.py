"""The one error that the runtime's tree does not have: several products of which there is too little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import Message
from google.rpc import error_details_pb2 as rpc

from shop_services.runtime.errors import FailedPrecondition

STOCK = "STOCK"
"""The type of the precondition that there is enough of a product."""

_BYTES = 4500
"""How much of a status the violations may take: it travels in metadata, which peers bound at some 8 KB."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """A product of which fewer are left than were asked for."""

    product_id: str
    asked: int
    left: int


class InsufficientStock(FailedPrecondition):
    """Too little is left of some products. Each is a violation of the details, as far as a status has room for them."""

    default_reason = "INSUFFICIENT_STOCK"

    def __init__(self, shortages: Sequence[Shortage]) -> None:
        named = "; ".join(f"product {s.product_id!r}: asked {s.asked}, left {s.left}" for s in shortages)
        super().__init__(STOCK, shortages[0].product_id, f"not enough stock: {named}")
        self.shortages = tuple(shortages)

    def specifics(self) -> list[Message]:
        failure = rpc.PreconditionFailure()
        for done, shortage in enumerate(self.shortages):
            description = f"asked {shortage.asked}, left {shortage.left}"
            failure.violations.add(type=STOCK, subject=shortage.product_id, description=description)
            if failure.ByteSize() > _BYTES:
                del failure.violations[-1]
                failure.violations.add(type=STOCK, description=f"and {len(self.shortages) - done} more products")
                break
        return [failure]
