"""What is asked of the shop, drawn from the seed before anything runs: the catalog, and every purchase."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

USERS = 5
PRODUCTS = 24
GOOD_CARD = "pm_card_visa"

_CARDS = {
    GOOD_CARD: 825,
    "": 60,  # the default, which is the good one
    "pm_card_chargeDeclined": 45,
    "pm_card_chargeDeclinedInsufficientFunds": 45,
    "pm_sim_slow": 15,
    "pm_sim_silent": 8,
    "pm_sim_crash": 2,
}
"""How often each is used, in thousand purchases."""
REFUSED = frozenset({"pm_card_chargeDeclined", "pm_card_chargeDeclinedInsufficientFunds"})
"""The cards with which no order can be fulfilled, unless it costs nothing."""

_SCARCE_SHARE = 0.25
_CANCELLED_SHARE = 0.12
_CONCURRENT_SHARE, _LATE_SHARE = 0.10, 0.05


@dataclass(frozen=True, slots=True)
class Product:
    """A product to put into the catalog: the price of one, and how many there are."""

    hundredths: int
    stock: int


@dataclass(frozen=True, slots=True)
class Cancellation:
    """Call the order off `delay` seconds after it was seen to have come as far as `status`, or further."""

    status: str
    delay: float


@dataclass(frozen=True, slots=True)
class Purchase:
    """One order. Users and products are named by their place in the plan.

    So many `copies` of the request are sent at once, and with `late` one more when the others were answered.
    """

    request_id: str
    user: int
    items: Mapping[int, int]
    card: str
    copies: int
    late: bool
    cancellation: Cancellation | None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is asked of the shop. A quarter of the products is scarce: not all orders for them can be fulfilled."""

    products: Sequence[Product]
    purchases: Sequence[Purchase]


def draw_plan(orders: int, rng: Random) -> Plan:
    """So many purchases, and a catalog that is too small for some of them."""
    purchases = [_purchase(number, rng) for number in range(orders)]
    wanted = Counter[int]()
    for purchase in purchases:
        wanted.update(purchase.items)
    scarce = set(rng.sample(range(PRODUCTS), int(PRODUCTS * _SCARCE_SHARE)))
    products = [
        Product(
            hundredths=0 if number == 0 else rng.randint(50, 20_000),
            stock=int(wanted[number] * (rng.uniform(0.5, 0.9) if number in scarce else 1.2)) + 1,
        )
        for number in range(PRODUCTS)
    ]
    return Plan(products, purchases)


def _purchase(number: int, rng: Random) -> Purchase:
    bought = rng.sample(range(PRODUCTS), rng.choice([1, 1, 1, 2, 3]))
    cancellation = None
    if rng.random() < _CANCELLED_SHARE:
        cancellation = Cancellation(rng.choice(["PENDING", "PROCESSING", "PAID"]), rng.choice([0, rng.uniform(0, 0.5)]))
    return Purchase(
        request_id=f"purchase-{number}",
        user=rng.randrange(USERS),
        items={product: rng.randint(1, 3) for product in bought},
        card=rng.choices(list(_CARDS), list(_CARDS.values()))[0],
        copies=rng.randint(2, 4) if rng.random() < _CONCURRENT_SHARE else 1,
        late=rng.random() < _LATE_SHARE,
        cancellation=cancellation,
    )
