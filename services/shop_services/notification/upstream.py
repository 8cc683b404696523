"""Whom an order's e-mail goes to, asked of the user service."""

from __future__ import annotations

from typing import Protocol

import grpc

from shop.user.v1 import user_pb2
from shop.user.v1.user_pb2_grpc import UserServiceStub
from shop_services.notification.domain import Recipient, one_line
from shop_services.runtime.errors import Unavailable


class Users(Protocol):
    """Who has an account."""

    async def find(self, user_id: str) -> Recipient | None:
        """The address and the name of a user; None if the account was closed.

        Raises:
            Unavailable: that cannot be found out now.
        """


class UserService:
    """`Users` by RPC, over a `channel` to the service `user`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = UserServiceStub(channel)

    async def find(self, user_id: str) -> Recipient | None:
        try:
            response: user_pb2.GetUserResponse = await self._stub.GetUser(user_pb2.GetUserRequest(user_id=user_id))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            why = f"the user service cannot be asked ({error.code().name})"
            raise Unavailable(why, metadata={"service": "user"}) from error
        return Recipient(response.user.email, one_line(response.user.display_name))
