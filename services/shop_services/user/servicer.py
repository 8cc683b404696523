"""shop.user.v1.UserService: protobuf to the domain and back, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct

from shop.access.v1 import access_pb2
from shop.user.v1 import user_pb2 as pb
from shop.user.v1 import user_pb2_grpc
from shop_services.runtime.errors import InvalidArgument
from shop_services.runtime.etags import etag
from shop_services.runtime.identity.caller import Role, caller
from shop_services.runtime.interceptor import Context
from shop_services.runtime.masks import changed_fields
from shop_services.runtime.paging import page_size
from shop_services.runtime.times import to_timestamp
from shop_services.storage import Replies
from shop_services.user.domain import KIND, Changes, NewUser, User
from shop_services.user.login_domain import Tokens
from shop_services.user.login_usecases import Logins
from shop_services.user.usecases import Users

MAX_PROFILE = 64 * 1024
"""Bytes of a serialized profile."""

_MUTABLE = ("email", "username", "display_name", "profile", "role")
_NEEDED = ("email", "username")

_ROLES = {Role.CUSTOMER: access_pb2.ROLE_CUSTOMER, Role.ADMIN: access_pb2.ROLE_ADMIN}
_FROM_PROTO = {number: role for role, number in _ROLES.items()}


class UserServicer(user_pb2_grpc.UserServiceServicer):
    """Serves `Users` and `Logins`."""

    def __init__(self, users: Users, logins: Logins, replies: Replies) -> None:
        self._users = users
        self._logins = logins
        self._replies = replies

    # Methods are named as the RPCs that they serve.
    # ruff: noqa: N802
    async def CreateUser(self, request: pb.CreateUserRequest, context: Context) -> pb.CreateUserResponse:
        new = NewUser(
            email=request.email,
            username=request.username,
            password=request.password,
            display_name=request.display_name,
            profile=_profile(request.profile, "profile"),
        )
        mutation = self._replies.mutation(request, pb.CreateUserResponse, _created, secrets=["password"])
        return await self._users.create(new, mutation)

    async def GetUser(self, request: pb.GetUserRequest, context: Context) -> pb.GetUserResponse:
        return pb.GetUserResponse(user=to_proto(await self._users.get(request.user_id)))

    async def UpdateUser(self, request: pb.UpdateUserRequest, context: Context) -> pb.UpdateUserResponse:
        given = request.user
        if not given.id:
            raise InvalidArgument.of("user.id", "must name the account to change")
        changes = _changes(request)
        mutation = self._replies.mutation(request, pb.UpdateUserResponse, _updated)
        return await self._users.update(given.id, changes, given.etag, mutation, caller())

    async def DeleteUser(self, request: pb.DeleteUserRequest, context: Context) -> pb.DeleteUserResponse:
        mutation = self._replies.mutation(request, pb.DeleteUserResponse, _deleted)
        return await self._users.delete(request.user_id, request.etag, mutation)

    async def ListUsers(self, request: pb.ListUsersRequest, context: Context) -> pb.ListUsersResponse:
        page = await self._users.page(page_size(request.page_size), request.page_token, _weight)
        return pb.ListUsersResponse(users=map(to_proto, page.items), next_page_token=page.next_token)

    async def Login(self, request: pb.LoginRequest, context: Context) -> pb.LoginResponse:
        user, tokens = await self._logins.login(request.login, request.password)
        return pb.LoginResponse(user=to_proto(user), tokens=_tokens(tokens))

    async def RefreshTokens(self, request: pb.RefreshTokensRequest, context: Context) -> pb.RefreshTokensResponse:
        return pb.RefreshTokensResponse(tokens=_tokens(await self._logins.refresh(request.refresh_token)))

    async def Logout(self, request: pb.LogoutRequest, context: Context) -> pb.LogoutResponse:
        await self._logins.logout(request.refresh_token)
        return pb.LogoutResponse()


def _weight(user: User) -> int:
    return to_proto(user).ByteSize() + 5  # exact: what a profile takes depends on all that is in it


def to_proto(user: User) -> pb.User:
    """`user` as the API shows it."""
    profile = Struct()
    profile.update(user.profile)
    return pb.User(
        id=user.id,
        email=user.email,
        username=user.username,
        display_name=user.display_name,
        profile=profile,
        create_time=to_timestamp(user.create_time),
        update_time=to_timestamp(user.update_time),
        etag=etag(KIND, user.id, user.version),
        role=_ROLES[user.role],
    )


def _tokens(tokens: Tokens) -> pb.Tokens:
    return pb.Tokens(
        access_token=tokens.access,
        access_expire_time=to_timestamp(tokens.access_expire_time),
        refresh_token=tokens.refresh,
        refresh_expire_time=to_timestamp(tokens.refresh_expire_time),
    )


def _created(user: User) -> pb.CreateUserResponse:
    return pb.CreateUserResponse(user=to_proto(user))


def _updated(user: User) -> pb.UpdateUserResponse:
    return pb.UpdateUserResponse(user=to_proto(user))


def _deleted(_user: User) -> pb.DeleteUserResponse:
    return pb.DeleteUserResponse()


def _changes(request: pb.UpdateUserRequest) -> Changes:
    names = changed_fields(request.update_mask, request.user, _MUTABLE)
    values: dict[str, Any] = {name: getattr(request.user, name) for name in names}
    if empty := [name for name in _NEEDED if values.get(name) == ""]:
        raise InvalidArgument((f"user.{name}", "must not be empty") for name in empty)
    if "profile" in values:
        values["profile"] = _profile(request.user.profile, "user.profile")
    if "role" in values:
        values["role"] = _role(request.user.role)
    return cast("Changes", values)


def _role(number: access_pb2.Role.ValueType) -> Role:
    if number not in _FROM_PROTO:
        raise InvalidArgument.of("user.role", f"must be one of {', '.join(map(access_pb2.Role.Name, _FROM_PROTO))}")
    return _FROM_PROTO[number]


def _profile(profile: Struct, field: str) -> Mapping[str, Any]:
    if profile.ByteSize() > MAX_PROFILE:
        raise InvalidArgument.of(field, f"must not be larger than {MAX_PROFILE:,} bytes")
    try:
        return json_format.MessageToDict(profile)
    except ValueError:  # SerializeToJsonError is one
        raise InvalidArgument.of(field, "must be a JSON object, which has no infinite numbers, and no NaN") from None
