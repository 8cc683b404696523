"""Server reflection as tools need it. grpcio's own answers from Python's descriptors, which leave two things out.

- Python's pool does not find methods, so `grpcurl describe package.Service.Method` would find nothing.
- protoc strips the JSON names of fields from Python's descriptors: `grpcurl` would take `page_size` but not `pageSize`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FileDescriptor
from grpc_reflection.v1alpha import reflection


class _File:
    """A file as grpcio's reflection reads it, which copies itself with the JSON names of all fields."""

    def __init__(self, file: FileDescriptor) -> None:
        self._file = file
        self.name = file.name

    @property
    def dependencies(self) -> list[_File]:
        return [_File(file) for file in self._file.dependencies]

    def CopyToProto(self, proto: descriptor_pb2.FileDescriptorProto) -> None:  # noqa: N802 - protobuf's name
        self._file.CopyToProto(proto)
        for message in proto.message_type:
            _name_fields(message, self._file.message_types_by_name[message.name])


def _name_fields(proto: descriptor_pb2.DescriptorProto, message: Descriptor) -> None:
    for field in proto.field:
        field.json_name = message.fields_by_name[field.name].json_name
    for nested in proto.nested_type:
        _name_fields(nested, message.nested_types_by_name[nested.name])


class _Pool:
    """The pool that reflection answers from: the default one, completed."""

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileByName(self, name: str) -> _File:  # noqa: N802 - protobuf's name
        return _File(self._pool.FindFileByName(name))

    def FindFileContainingSymbol(self, symbol: str) -> _File:  # noqa: N802 - protobuf's name
        try:
            return _File(self._pool.FindFileContainingSymbol(symbol))
        except KeyError:
            service, _, method = symbol.rpartition(".")
            found = self._pool.FindServiceByName(service)
            if method not in found.methods_by_name:
                raise
            return _File(found.file)


def add_reflection(services: Iterable[str], server: grpc.aio.Server) -> None:
    """Let `server` describe `services`, and reflection itself, to whoever asks."""
    pool: Any = _Pool(descriptor_pool.Default())
    reflection.enable_server_reflection((*services, reflection.SERVICE_NAME), server, pool)
