"""What the chapters share: the shop's two doors, the means to do harm, and what the shopper has so far.

Ada comes with her access token, once she has logged in. What only the shop's own people may do is done as the operator.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpc_registry import Registry
from shop_services.demo.front import Front, Reply
from shop_services.demo.story import Failed, Story
from shop_services.runtime.identity.authority import bearer
from shop_services.runtime.operator import operator_channel, operator_token
from shop_services.runtime.outgoing import OutgoingChannel, balanced_channel
from shop_services.runtime.settings import Settings
from shop_services.runtime.tls import OPERATOR

JsonObject = dict[str, Any]


@dataclass
class Stage:
    """`kill` ends one process of a service by SIGKILL and returns its pid; `token` makes names and ids unique.

    `settings` are the shop's: they say where keys and certificates are. `mailbox` is where the e-mails come that the
    shop sends; None if they go to a mail server of somebody else's.
    """

    story: Story
    front: Front
    registry: Registry
    settings: Settings
    kill: Callable[[str], int]
    token: str
    mailbox: Path | None = None
    access: str = field(default="", repr=False)
    """Ada's access token; empty until she has logged in."""
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
        token: str | None = None,
        outcome: Callable[[JsonObject], str],
    ) -> JsonObject:
        """Send a request, tell of it with `outcome(answer)`, and return the answer.

        It is Ada's, unless another `token` is given; the empty one stands for nobody.

        Raises:
            Failed: the answer has another status.
        """
        reply = await self.front.request(method, path, body, self.access if token is None else token)
        if reply.status != status:
            raise Failed(f"{method} {path}: expected {status}, got {reply.status}: {_explain(reply)}")
        self.story.did(f"{method} {path}", f"{reply.status} {outcome(reply.body)}", reply.seconds)
        return reply.body

    @property
    def operator(self) -> str:
        """An access token of who runs the shop."""
        return operator_token(self.settings)

    def as_operator(self, service: str) -> OutgoingChannel:
        """A channel to a service, for calls by who runs the shop."""
        return operator_channel(service, self.registry, self.settings)

    def as_ada(self, service: str) -> OutgoingChannel:
        """A channel to a service, for calls with Ada's token."""
        channel = balanced_channel(service, self.registry, self.settings, OPERATOR)
        return OutgoingChannel(channel, None, credentials=lambda: bearer(self.access))


def _explain(reply: Reply) -> str:
    return str(reply.body.get("message") or f"an answer with {', '.join(reply.body)}")
