from __future__ import annotations

from typing import Any

import pytest
from google.api import annotations_pb2, http_pb2
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor

from shop_services.gateway.rules import WHOLE, InvalidRule, rules_of
from tests.unit.services.gateway import zoo


def test_an_rpc_has_a_rule_for_each_binding() -> None:
    """The binding itself comes first, then the additional ones; an RPC without an annotation has none."""
    rules = list(rules_of(zoo.service()))
    echo = [rule for rule in rules if rule.rpc.name == "Echo"]
    assert [(rule.number, rule.method) for rule in echo] == list(enumerate(["POST", "GET", "GET", "PUT", "POST", "*"]))
    assert [str(rule.template) for rule in echo][:2] == ["/v1/echo", "/v1/echo"]
    assert {rule.path for rule in echo} == {"/tests.zoo.v1.Zoo/Echo"}
    assert echo[0].body == WHOLE
    assert echo[1].body is None
    assert [field.name for field in echo[3].bound[0]] == ["child", "name"]
    assert "Hidden" not in {rule.rpc.name for rule in rules}
    assert {rule.rpc.name for rule in rules if rule.streams} == {"Watch", "Count", "Download", "Feed"}


def annotated(**rule: Any) -> ServiceDescriptor:
    """A service in a pool of its own, with one RPC from Everything to Everything that has this rule."""
    pool = descriptor_pool.DescriptorPool()
    for file in zoo.files().file:
        pool.AddSerializedFile(file.SerializeToString())
    file = descriptor_pb2.FileDescriptorProto(
        name="rule.proto", package="rule", syntax="proto3", dependency=["zoo.proto", "google/api/annotations.proto"]
    )
    everything = ".tests.zoo.v1.Everything"
    method = file.service.add(name="S").method.add(name="Do", input_type=everything, output_type=everything)
    method.options.Extensions[annotations_pb2.http].CopyFrom(http_pb2.HttpRule(**rule))
    pool.AddSerializedFile(file.SerializeToString())
    return pool.FindServiceByName("rule.S")


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ({"get": "v1"}, "template 'v1', position 0: expected '/'"),
        ({"get": "/v1/{nope}"}, "nope: unknown field"),
        ({"get": "/v1/{child.nope}"}, "child.nope: unknown field"),
        ({"get": "/v1/{child}"}, "child: cannot be in a path"),
        ({"get": "/v1/{string_list}"}, "string_list: cannot be in a path"),
        ({"get": "/v1/{text_by_text}"}, "text_by_text: cannot be in a path"),
        ({"get": "/v1/{children.name}"}, "children.name: is inside of 'children', which is repeated"),
        ({"post": "/v1", "body": "nope"}, "nope: is named as body, but is not a field of tests.zoo.v1.Everything"),
        ({"get": "/v1", "response_body": "nope"}, "nope: is named as response_body, but is not a field"),
        ({"get": "/v1", "additional_bindings": [{"body": "*"}]}, "an additional binding without a pattern"),
        (
            {"get": "/v1", "additional_bindings": [{"get": "/v2", "additional_bindings": [{"get": "/v3"}]}]},
            "an additional binding has bindings of its own",
        ),
    ],
)
def test_a_rule_that_cannot_be_served_is_refused(rule: Any, complaint: str) -> None:
    """The error names the RPC and what is wrong with its annotation."""
    with pytest.raises(InvalidRule) as caught:
        list(rules_of(annotated(**rule)))
    assert str(caught.value).startswith("rule.S.Do: ")
    assert complaint in str(caught.value)


def test_a_path_can_bind_a_type_whose_json_is_a_string() -> None:
    """A Timestamp or a wrapper has a text of its own, so a path may hold it."""
    (rule,) = rules_of(annotated(get="/v1/{timestamp}/{int64_wrapper}/{child.child.name}"))
    assert [path[-1].name for path in rule.bound] == ["timestamp", "int64_wrapper", "name"]
