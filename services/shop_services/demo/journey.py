"""The journey from its first chapter to its last."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import grpc

from grpc_registry import RegistryError
from shop_services.demo import balance, crashes, ordering, shopping, trouble
from shop_services.demo.stage import Stage
from shop_services.demo.story import Failed

Chapter = Callable[[Stage], Awaitable[None]]

CHAPTERS: Mapping[str, Chapter] = {
    "Ada opens an account and logs in": shopping.open_account,
    "She browses a category": shopping.browse,
    "A price changes while she watches": shopping.watch_a_price,
    "A delivery arrives": shopping.take_a_delivery,
    "She orders two": ordering.order,
    "Her card is refused": ordering.refused_card,
    "She cancels an order": ordering.cancel,
    "The payment provider takes her money and dies": crashes.lose_the_provider,
    "A worker is killed while it charges her card": crashes.lose_a_worker,
    "An instance is killed while others shop": trouble.lose_an_instance,
    "She makes mistakes": trouble.make_mistakes,
    "Strangers are kept out": trouble.keep_strangers_out,
    "The cache remembers her basket": balance.remember,
    "One cache instance gets twice the weight": balance.balance,
    "The order whose worker died": crashes.see_it_done,
}

_CHAPTER_SECONDS = 90.0


async def play(stage: Stage) -> bool:
    """Play all chapters, up to the first that fails; returns whether all of it worked, and says what did not."""
    for title, chapter in CHAPTERS.items():
        stage.story.chapter(title)
        try:
            async with asyncio.timeout(_CHAPTER_SECONDS):
                await chapter(stage)
        except (Failed, RegistryError, OSError, ValueError) as error:  # OSError: also a timeout
            stage.story.end(str(error) or repr(error))
            return False
        except grpc.aio.AioRpcError as error:
            stage.story.end(f"{error.code().name}: {error.details()}")
            return False
        except KeyError as error:
            stage.story.end(f"the answer has no {error}")
            return False
    stage.story.end()
    return True
