from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from shop_services.gateway import protojson
from shop_services.gateway.openapi import Comments, make_document
from shop_services.gateway.rules import rules_of
from shop_services.gateway.wiring import SERVICES
from tests.unit.services.gateway import zoo

ZOO = make_document([zoo.service()], Comments(zoo.files()), title="Zoo", version="2")
SHOP = make_document(
    SERVICES,
    Comments(FileDescriptorSet.FromString((files("shop") / "descriptors.binpb").read_bytes())),
    title="Shop",
    version="1",
)


def operation(path: str, method: str, document: Any = ZOO) -> Any:
    return document["paths"][path][method]


def parameter(path: str, method: str, name: str, document: Any = ZOO) -> Any:
    return next(each for each in operation(path, method, document)["parameters"] if each["name"] == name)


def schema(name: str, document: Any = ZOO) -> Any:
    return document["components"]["schemas"][name]


ANIMAL = schema("tests.zoo.v1.Animal")["properties"]


@pytest.mark.parametrize("document", [ZOO, SHOP], ids=["zoo", "shop"])
def test_the_document_is_valid(document: Any) -> None:
    """OpenAPI's own schema and rules accept it, and every reference leads somewhere."""
    validate(document)
    assert document["openapi"] == "3.1.0"


def test_every_binding_of_the_shop_is_there_once() -> None:
    """There are as many operations as rules, each with an id of its own; streams of answers are among them."""
    rules = [rule for service in SERVICES for rule in rules_of(service)]
    operations = [each for path in SHOP["paths"].values() for each in path.values()]
    assert len(operations) == len(rules)
    assert len({each["operationId"] for each in operations}) == len(rules)


def test_a_stream_has_the_forms_that_a_client_can_choose() -> None:
    """Lines of JSON with a message or an error in each, and events."""
    answer = operation("/v1/orders/{order_id}:watch", "get", SHOP)["responses"]["200"]["content"]
    lines, events = answer["application/x-ndjson"]["schema"]["oneOf"], answer["text/event-stream"]["schema"]
    assert [line["required"] for line in lines] == [["result"], ["error"]]
    assert lines[0]["properties"]["result"] == {"$ref": "#/components/schemas/shop.order.v1.WatchOrderResponse"}
    assert events["type"] == "string"


def test_everything_of_the_shop_has_a_description() -> None:
    """The comments of the protos reach every operation, parameter, message and field."""
    for path in SHOP["paths"].values():
        for each in path.values():
            assert each["description"]
            assert all(one["description"] for one in each["parameters"])
    for name, component in SHOP["components"]["schemas"].items():
        if name.startswith("shop."):
            assert component["description"], name
            assert all(field["description"] for field in component.get("properties", {}).values()), name
    assert all(tag["description"] for tag in SHOP["tags"])


def test_paths_of_one_shape_are_one_path() -> None:
    """OpenAPI allows a shape once: the first name of a parameter serves all methods."""
    assert SHOP["paths"]["/v1/users/{user_id}"].keys() == {"get", "patch", "delete"}
    assert parameter("/v1/users/{user_id}", "patch", "user_id", SHOP)["required"] is True


def test_wildcards_have_names_and_literals_stay() -> None:
    """A variable of several segments is taken apart, so that a client can build the path."""
    path = "/v1/echo/shelves/{child.name.1}/books/{child.name.2}"
    assert [each["name"] for each in operation(path, "put")["parameters"] if each["in"] == "path"] == [
        "child.name.1",
        "child.name.2",
    ]
    key = parameter("/v1/cache/{namespace}/entries/{key}", "get", "key", SHOP)
    assert "several segments" in key["description"]


def test_additional_bindings_are_operations() -> None:
    """Each binding has an id; one for any method has no place in OpenAPI."""
    assert operation("/v1/echo", "post")["operationId"] == "Zoo_Echo"
    assert operation("/v1/echo", "get")["operationId"] == "Zoo_Echo_2"
    assert operation("/v1/echo/{string_value}:list", "post")["operationId"] == "Zoo_Echo_5"
    assert "/v1/any/{timestamp}" not in ZOO["paths"]


def test_a_query_has_a_parameter_for_each_field_that_it_can_set() -> None:
    """Nested fields have dotted names, into each type once; maps, lists of messages and bound fields are not there."""
    names = {each["name"] for each in operation("/v1/echo", "get")["parameters"]}
    assert {"stringValue", "other-name", "stringList", "timestamp", "stringWrapper", "child.name"} <= names
    assert {"child", "children", "textByText", "struct", "any", "empty", "everything"}.isdisjoint(names)
    assert not any(name.startswith("child.child.") for name in names)
    assert parameter("/v1/echo", "get", "int32List")["schema"]["type"] == "array"
    assert parameter("/v1/echo", "get", "int64Value")["schema"]["type"] == "integer"
    assert [each["name"] for each in operation("/v1/animals/{animal.name}", "patch")["parameters"]] == [
        "animal.name",
        "updateMask",
        "requestId",
    ]
    assert [each["in"] for each in operation("/v1/echo", "post")["parameters"]] == []


def test_bodies_and_answers_are_what_the_rule_says() -> None:
    """A body is a message, a field, or what the path has left over; an answer is a message or a field."""
    content = operation("/v1/echo", "post")["requestBody"]["content"]["application/json"]["schema"]
    assert content == {"$ref": "#/components/schemas/tests.zoo.v1.Everything"}
    listed = operation("/v1/echo/{string_value}:list", "post")
    numbers = listed["requestBody"]["content"]["application/json"]["schema"]
    assert (numbers["type"], numbers["items"]["format"]) == ("array", "int32")
    assert listed["responses"]["200"]["content"]["application/json"]["schema"]["type"] == "array"
    adjust = operation("/v1/products/{product_id}/stock:adjust", "post", SHOP)["requestBody"]
    assert adjust["required"] is True
    assert adjust["content"]["application/json"]["schema"]["properties"].keys() == {"requestId", "delta"}
    assert operation("/v1/products/{product_id}", "patch", SHOP)["requestBody"]["required"] is True
    assert "requestBody" not in operation("/v1/products", "get", SHOP)


def test_every_error_has_the_same_shape() -> None:
    """Whatever the status, the body is a google.rpc.Status, and no status stands for any other."""
    for path in SHOP["paths"].values():
        for each in path.values():
            assert "default" not in each["responses"]
            for status, response in each["responses"].items():
                if status == "200":
                    continue
                if "$ref" in response:
                    response = SHOP["components"]["responses"][response["$ref"].rpartition("/")[2]]
                (content,) = response["content"].values()
                assert content["schema"] == {"$ref": "#/components/schemas/google.rpc.Status"}
                assert resolved(SHOP, "google.rpc.Status").is_valid(content["example"])
                assert response["description"]


@pytest.mark.parametrize(
    ("detail", "valid"),
    [
        ({"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": "r", "servingData": ""}, True),
        ({"@type": "type.googleapis.com/google.rpc.RequestInfo", "id": "r"}, False),
        ({"@type": "type.googleapis.com/elsewhere.Detail", "id": "r"}, True),
        ({"id": "r"}, False),
    ],
)
def test_details_are_told_apart_by_their_type(detail: Any, valid: bool) -> None:
    """A detail of a kind that ours have keeps to its schema, and one of another kind may be anything."""
    error = {"code": 5, "message": "", "details": [detail]}
    assert resolved(SHOP, "google.rpc.Status").is_valid(error) is valid


@pytest.mark.parametrize(
    ("field", "keywords"),
    [
        ("nickName", {"minLength": 2, "maxLength": 20, "pattern": "^[a-z]+$"}),
        ("legs", {"type": "integer", "minimum": 0, "exclusiveMaximum": 1000}),
        ("age", {"type": "string", "format": "int64", "description": "At most 500 and more than 0."}),
        ("mail", {"format": "email"}),
        ("tags", {"minItems": 1, "maxItems": 3, "uniqueItems": True}),
        ("labels", {"type": "object", "maxProperties": 2}),
        ("kind", {"not": {"enum": ["KIND_UNSPECIFIED"]}}),
        ("picture", {"contentEncoding": "base64", "maxLength": 16}),
        ("nap", {"type": "string", "description": "At most 60s and more than 0s."}),
        ("eyes", {"anyOf": [{"const": 0}, {"minimum": 2}], "description": "Eyes come in pairs."}),
        ("profile", {"type": "object", "additionalProperties": True}),
    ],
)
def test_rules_are_keywords(field: str, keywords: Any) -> None:
    """What protovalidate demands is in the schema, or in words where JSON Schema has none."""
    assert {name: ANIMAL[field].get(name) for name in keywords} == keywords


def test_items_have_rules_of_their_own() -> None:
    """The rules for the items of a list are in the schema of the items."""
    assert ANIMAL["tags"]["items"] == {"type": "string", "minLength": 1, "enum": ["a", "b"]}


def test_required_is_what_the_validator_misses() -> None:
    """The fields that an empty message is refused for are required, whatever kind of rule that is."""
    assert schema("tests.zoo.v1.Animal")["required"] == ["nickName", "age", "tags", "kind", "child"]
    assert schema("shop.user.v1.CreateUserRequest", SHOP)["required"] == ["email", "username", "password"]
    assert parameter("/v1/products:batchGet", "get", "productIds", SHOP)["required"] is True
    assert "required" not in parameter("/v1/products", "get", "pageSize", SHOP)


def test_a_rule_that_is_ignored_for_a_zero_value_lets_it_pass() -> None:
    """A schema never rules out what the service takes."""
    pattern = parameter("/v1/products", "get", "category", SHOP)["schema"]["pattern"]
    validator = Draft202012Validator({"pattern": pattern})
    assert validator.is_valid("")
    assert validator.is_valid("books")
    assert not validator.is_valid("Books!")


def resolved(document: Any, name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": document["components"]})


def test_what_is_printed_keeps_to_the_schema() -> None:
    """The JSON of a message with every field set, and of an empty one, is valid by its own schema."""
    validator = resolved(ZOO, "tests.zoo.v1.Everything")
    message = zoo.message(
        "Everything",
        bytes_value=b"\xff",
        int64_value=-1,
        uint64_value=2**64 - 1,
        double_value=1.5,
        kind_list=[1, 2],
        child={"child": {"name": "x"}},
        text_by_text={"a": "b"},
        kind_by_bool={True: 1},
        timestamp={"seconds": 1},
        duration={"seconds": 1, "nanos": 500_000_000},
        mask={"paths": ["a_b.c"]},
        struct={"fields": {"a": {"number_value": 1}}},
        value={"null_value": 0},
        list={"values": [{"bool_value": True}]},
        string_wrapper={"value": "x"},
        int64_wrapper={"value": 1},
        money={"currency_code": "EUR", "units": 1},
        everything={},
    )
    message.any.Pack(message.child)
    print_ = protojson.message_printer(zoo.descriptor("Everything"))
    for each in (message, zoo.message("Everything")):
        validator.validate(protojson.loads(protojson.dumps(print_(each))))


@pytest.mark.parametrize(
    ("name", "body", "valid"),
    [
        ("shop.order.v1.CreateOrderRequest", {"requestId": "r", "userId": "u", "items": []}, False),
        ("shop.order.v1.CreateOrderRequest", {"requestId": "r", "items": [{"productId": "p", "quantity": "1"}]}, False),
        (
            "shop.order.v1.CreateOrderRequest",
            {"requestId": "r", "userId": "u", "items": [{"productId": "p", "quantity": "1"}]},
            True,
        ),
        ("shop.user.v1.CreateUserRequest", {"email": "a@b.c", "username": "ab", "password": "correct horse"}, False),
        ("shop.user.v1.CreateUserRequest", {"email": "a@b.c", "username": "abc", "password": "correct horse"}, True),
        (
            "shop.user.v1.CreateUserRequest",
            {"email": "a@b.c", "username": "abc", "password": "12345678", "x": 1},
            False,
        ),
    ],
)
def test_a_schema_tells_good_requests_from_bad(name: str, body: Any, valid: bool) -> None:
    """A client can check a request by the document before it sends it."""
    assert resolved(SHOP, name).is_valid(body) is valid
