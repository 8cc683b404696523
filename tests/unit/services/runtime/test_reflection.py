"""Reflection tells tools what Python's own would keep from them."""

from __future__ import annotations

from functools import partial
from typing import Any

from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from shop.user.v1 import user_pb2_grpc
from shop_services.runtime.app import App
from shop_services.runtime.testing import running

NAME = "shop.user.v1.UserService"


class Servicer(user_pb2_grpc.UserServiceServicer):
    """Only described, never called."""


SERVICER = Servicer()  # type: ignore[abstract]  # the methods stay as they were generated
APP = App("user", {NAME: partial(user_pb2_grpc.add_UserServiceServicer_to_server, SERVICER)})


async def _asked(**question: str) -> Any:
    async with running(APP) as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)  # type: ignore[arg-type]  # or an aio one
        request = reflection_pb2.ServerReflectionRequest(**question)  # type: ignore[arg-type]  # all are text
        (answer,) = [answer async for answer in stub.ServerReflectionInfo(iter([request]))]
    return answer


def _files(answer: Any) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    files = map(descriptor_pb2.FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto)
    return {file.name: file for file in files}


async def test_a_method_is_found_by_its_full_name() -> None:
    """The file of a method is that of its service, and comes with all that it imports."""
    files = _files(await _asked(file_containing_symbol=f"{NAME}.GetUser"))
    assert {"shop/user/v1/user.proto", "google/protobuf/struct.proto"} <= files.keys()


async def test_fields_have_their_json_names() -> None:
    """Whichever way a file is asked for, its fields have both names, those of nested messages too."""
    for question in ({"file_by_filename": "shop/user/v1/user.proto"}, {"file_containing_symbol": NAME}):
        files = _files(await _asked(**question))
        (user,) = (message for message in files["shop/user/v1/user.proto"].message_type if message.name == "User")
        assert {field.name: field.json_name for field in user.field}["display_name"] == "displayName"
        (struct,) = (m for m in files["google/protobuf/struct.proto"].message_type if m.name == "Struct")
        assert [field.json_name for field in struct.nested_type[0].field] == ["key", "value"]


async def test_what_does_not_exist_is_not_found() -> None:
    """A method that a service lacks, a service that no file has, and a file that nobody has."""
    for question in (
        {"file_containing_symbol": f"{NAME}.Fly"},
        {"file_containing_symbol": "nobody.Service.Fly"},
        {"file_by_filename": "no.proto"},
    ):
        assert (await _asked(**question)).error_response.error_code == 5, question
