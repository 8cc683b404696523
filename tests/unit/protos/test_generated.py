"""The generated package is what services, tests and tools rely on."""

from __future__ import annotations

from importlib.resources import files

import pytest
from buf.validate import validate_pb2
from google.api import annotations_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from protovalidate import ViolationPb

from shop.cache.v1 import cache_pb2
from shop.order.v1 import order_pb2
from shop.product.v1 import inventory_pb2, product_pb2
from shop.user.v1 import user_pb2

FILES = [module.DESCRIPTOR for module in (user_pb2, product_pb2, inventory_pb2, order_pb2, cache_pb2)]


def descriptors() -> FileDescriptorSet:
    return FileDescriptorSet.FromString(files("shop").joinpath("descriptors.binpb").read_bytes())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_options_are_known_to_the_runtime(file: FileDescriptor) -> None:
    """google's runtime reads the rules and the HTTP routes from every file's descriptors, as extensions it knows."""
    fields = [field for message in file.message_types_by_name.values() for field in message.fields]
    assert any(field.GetOptions().HasExtension(validate_pb2.field) for field in fields)
    methods = [method for service in file.services_by_name.values() for method in service.methods]
    routed = [method for method in methods if method.GetOptions().HasExtension(annotations_pb2.http)]
    assert routed
    assert all(method.GetOptions().Extensions[annotations_pb2.http].WhichOneof("pattern") for method in routed)


def test_the_rules_are_those_of_the_validator() -> None:
    """`validate_pb2` describes the same file that protovalidate itself was built from."""
    theirs = FileDescriptorProto.FromString(ViolationPb.desc().file.proto.to_binary())
    ours = FileDescriptorProto()
    validate_pb2.DESCRIPTOR.CopyToProto(ours)
    assert ours == theirs


def test_descriptors_have_every_file_with_its_imports_and_comments() -> None:
    """descriptors.binpb is complete, so that it can be read alone, and documents every RPC."""
    by_name = {file.name: file for file in descriptors().file}
    assert {file.name for file in FILES} <= by_name.keys()
    for file in by_name.values():
        assert set(file.dependency) <= by_name.keys()
    for name in (file.name for file in FILES):
        commented = {tuple(place.path) for place in by_name[name].source_code_info.location if place.leading_comments}
        for number, service in enumerate(by_name[name].service):
            assert {(6, number, 2, method) for method in range(len(service.method))} <= commented
