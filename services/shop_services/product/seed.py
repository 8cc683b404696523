"""A small catalog to try the shop with."""

from __future__ import annotations

import grpc
from google.type.money_pb2 import Money

from shop.product.v1 import product_pb2 as pb
from shop.product.v1.product_pb2_grpc import ProductServiceStub

_TIMEOUT = 10.0
_EUROS = "EUR"


def _product(sku: str, name: str, description: str, euros: int, cents: int, stock: int) -> pb.CreateProductRequest:
    category = _CATEGORIES[sku.partition("-")[0]]
    price = Money(currency_code=_EUROS, units=euros, nanos=cents * 10_000_000)
    return pb.CreateProductRequest(
        request_id=f"seed-{sku}",
        sku=sku,
        name=name,
        description=description,
        category=category,
        price=price,
        initial_stock=stock,
    )


_CATEGORIES = {"BOOK": "books", "DESK": "stationery", "KTCH": "kitchen", "GRDN": "garden"}

CATALOG = (
    _product(
        "BOOK-001", "A Field Guide to Clouds", "Ten kinds, two hundred photographs, one weather diary.", 24, 90, 120
    ),
    _product("BOOK-002", "The Slow Loaf", "Forty breads that need more patience than skill.", 29, 0, 80),
    _product(
        "BOOK-003",
        "Maps of Places That Moved",
        "Rivers, borders and one lighthouse, drawn before and after.",
        42,
        50,
        35,
    ),
    _product("BOOK-004", "Knots", "Sixty knots, each on one page, with the rope to try them.", 18, 0, 200),
    _product("BOOK-005", "Letters from the Night Train", "A novel in timetables.", 14, 95, 150),
    _product("BOOK-006", "Birds by Ear", "Learn thirty songs in thirty mornings.", 21, 0, 90),
    _product("DESK-001", "Brass Fountain Pen", "Fine nib; heavy enough to be missed when it is lost.", 64, 0, 40),
    _product("DESK-002", "Squared Notebook, A5", "160 numbered pages that lie flat.", 9, 80, 500),
    _product("DESK-003", "Walnut Ink", "30 ml, a warm brown that dries slowly.", 12, 40, 160),
    _product("DESK-004", "Steel Ruler, 30 cm", "Etched, not printed: the marks stay.", 7, 20, 240),
    _product("DESK-005", "Pencils, a Dozen", "Cedar, from 4H to 6B.", 15, 60, 180),
    _product("DESK-006", "Desk Lamp", "One arm, two joints, light for a whole page.", 89, 0, 25),
    _product("KTCH-001", "Cast-Iron Pan, 26 cm", "Seasoned, and better every year.", 49, 90, 60),
    _product("KTCH-002", "Pour-Over Kettle", "A thin spout and a steady hand.", 54, 0, 45),
    _product("KTCH-003", "Linen Towels, Pair", "Dry glass without a trace.", 19, 50, 220),
    _product("KTCH-004", "Pepper Mill", "A steel grinder in a beech body.", 32, 0, 70),
    _product("KTCH-005", "Mixing Bowls, Set of Three", "They nest, and they have rims to hold.", 27, 80, 110),
    _product("KTCH-006", "Bread Knife", "A wavy edge, 24 cm, for crusts.", 38, 40, 85),
    _product("GRDN-001", "Hand Trowel", "Forged in one piece.", 16, 90, 140),
    _product("GRDN-002", "Seeds: Herbs", "Basil, thyme, dill and chives.", 6, 50, 400),
    _product("GRDN-003", "Watering Can, 5 l", "Zinc, with a brass rose.", 36, 0, 50),
    _product("GRDN-004", "Pruning Shears", "They cut what is thinner than a thumb.", 28, 70, 95),
    _product("GRDN-005", "Garden Gloves", "Goatskin, soft at the fingertips.", 22, 0, 130),
    _product("GRDN-006", "Bird Feeder", "Squirrels have been consulted, and object.", 34, 50, 3),
)
"""The requests that make the catalog: 24 products in four categories."""


async def seed(stub: ProductServiceStub) -> int:
    """Put the demo catalog into the shop, and return how many products it has.

    What is there already stays as it is, so this can be repeated, and done by several at once.

    Raises:
        grpc.aio.AioRpcError: a call failed for another reason.
    """
    for request in CATALOG:
        try:
            await stub.CreateProduct(request, timeout=_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            # The reply to an earlier seed is kept for a day; after that, the SKU tells.
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                raise
    return len(CATALOG)
