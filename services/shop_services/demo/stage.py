"""What the chapters share: the shop's two doors, the means to do harm, and what the shopper has so far."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpc_registry import Registry
from shop_services.demo.front import Front, Reply
from shop_services.demo.story import Failed, Story

JsonObject = dict[str, Any]


@dataclass
class Stage:
    """`kill` ends one process of a service by SIGKILL and returns its pid; `token` makes names and ids unique.

    `mailbox` is where the e-mails come that the shop sends; None if they go to a mail server of somebody else's.
    """

    story: Story
    front: Front
    registry: Registry
    kill: Callable[[str], int]
    token: str
    mailbox: Path | None = None
    user: JsonObject = field(default_factory=dict)
    product: JsonObject = field(default_factory=dict)
    order: JsonObject = field(default_factory=dict)

    async def http(
        self,
        method: str,
        path: str,
        body: JsonObject | None = None,
        *,
        status: int = 200,
        outcome: Callable[[JsonObject], str],
    ) -> JsonObject:
        """Send a request, tell of it with `outcome(answer)`, and return the answer.

        Raises:
            Failed: the answer has another status.
        """
        reply = await self.front.request(method, path, body)
        if reply.status != status:
            raise Failed(f"{method} {path}: expected {status}, got {reply.status}: {_explain(reply)}")
        self.story.did(f"{method} {path}", f"{reply.status} {outcome(reply.body)}", reply.seconds)
        return reply.body


def _explain(reply: Reply) -> str:
    return str(reply.body.get("message", reply.body))
