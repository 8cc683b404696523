"""What `zoo.proto` says, compiled when first asked for: descriptors without generated code."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from buf.validate import validate_pb2
from google.api import annotations_pb2, httpbody_pb2  # type: ignore[attr-defined]  # HttpBody has no stubs
from google.protobuf import (
    any_pb2,
    descriptor_pool,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.type import money_pb2
from grpc_tools import protoc  # type: ignore[import-untyped]  # has no types

_HERE = Path(__file__).parent
_IMPORTED = (  # known to the default pool by being imported here
    annotations_pb2,
    any_pb2,
    duration_pb2,
    empty_pb2,
    field_mask_pb2,
    httpbody_pb2,
    money_pb2,
    struct_pb2,
    timestamp_pb2,
    validate_pb2,
    wrappers_pb2,
)


@cache
def files() -> FileDescriptorSet:
    """`zoo.proto` and all that it imports, with comments, known to the default pool from here on."""
    imported = FileDescriptorSet()
    for module in _IMPORTED:
        _add(imported, module.DESCRIPTOR)
    with tempfile.TemporaryDirectory() as directory:
        known, out = Path(directory, "known"), Path(directory, "out")
        known.write_bytes(imported.SerializeToString())
        arguments = [
            "protoc",
            f"--descriptor_set_in={known}",
            f"-I{_HERE}",
            "--include_imports",
            "--include_source_info",
            f"--descriptor_set_out={out}",
            "zoo.proto",
        ]
        if protoc.main(arguments) != 0:
            raise RuntimeError("protoc refused zoo.proto")
        result = FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.Default()
    zoo = next(file for file in result.file if file.name == "zoo.proto")
    pool.AddSerializedFile(zoo.SerializeToString())
    return result


def service() -> ServiceDescriptor:
    """`tests.zoo.v1.Zoo`."""
    files()
    return descriptor_pool.Default().FindServiceByName("tests.zoo.v1.Zoo")


def descriptor(name: str) -> Descriptor:
    """The message `name` of `tests.zoo.v1`."""
    files()
    return descriptor_pool.Default().FindMessageTypeByName(f"tests.zoo.v1.{name}")


def message(name: str, **fields: Any) -> Any:
    """A new message `name` of `tests.zoo.v1`."""
    return message_factory.GetMessageClass(descriptor(name))(**fields)


def _add(files: FileDescriptorSet, file: Any) -> None:
    for dependency in file.dependencies:
        _add(files, dependency)
    if all(file.name != known.name for known in files.file):
        file.CopyToProto(files.file.add())
