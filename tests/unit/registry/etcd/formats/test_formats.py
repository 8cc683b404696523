"""The formats of other frameworks, to the byte, both ways."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import grpc_registry
from grpc_registry import Format, GoZero, Instance, InvalidInstance, Kratos
from grpc_registry.etcd.formats import format_of
from grpc_registry.etcd.keys import Keyspace
from grpc_registry.etcd.naming import encode
from grpc_registry.instance import RESERVED_METADATA
from tests.unit.registry.etcd.golden_files import golden

INSTANCE = Instance("product", "10.0.0.1:50051", id="a1", weight=200, zone="a", version="1.4.0", host="h1")
LEASE = 7587895842170138120
ODD = Instance(
    "product",
    "[fe80::1%2]:50051",
    id="a1",
    version="1 < 2",
    metadata={"Ümläut": "ö", "lines": 'a\nb\u2028\u0001"\\', "list": [1, "x"]},
)


def test_etcds_naming_is_written_to_the_byte() -> None:
    """The key and the value are those that etcd's Go resolver with the target `etcd:///mesh/product` reads."""
    assert (Keyspace("mesh").instance("product", "a1"), encode(INSTANCE)) == golden("etcd-naming")


@pytest.mark.parametrize(
    ("form", "instance", "file"),
    [
        (Kratos(), INSTANCE, "kratos"),
        (Kratos(namespace="/shop", secure=True), ODD, "kratos-escapes"),
        (GoZero(), INSTANCE, "go-zero"),
    ],
)
def test_other_formats_are_written_to_the_byte(form: Format, instance: Instance, file: str) -> None:
    """Key and value are what the framework itself would write."""
    key = form.key(instance.service, instance.id, LEASE)
    assert (key, form.value(instance)) == golden(file)
    assert key.startswith(form.prefix(instance.service))


@pytest.mark.parametrize(
    ("form", "file", "instance"),
    [
        (Keyspace("mesh"), "etcd-naming", INSTANCE),
        (Keyspace("mesh"), "etcd-naming-by-go", Instance("product", "10.0.0.1:50051", id="10.0.0.1:50051")),
        (Kratos(), "kratos", INSTANCE),
        (
            Kratos(namespace="/shop", secure=True),
            "kratos-escapes",
            replace(ODD, metadata={**ODD.metadata, "list": '[1,"x"]'}),
        ),
        (
            Kratos(),
            "kratos-by-go",
            Instance("product", "10.0.0.1:9000", id="70d1b2f2-9a1b-11ef-8f0e-0242ac120002"),
        ),
        (
            Kratos(secure=True),
            "kratos-by-go-v2.0-tls",
            Instance("product", "10.0.0.1:9000", id="1", weight=20, version="v1"),
        ),
        (GoZero(), "go-zero", Instance("product", "10.0.0.1:50051", id=str(LEASE))),
    ],
)
def test_what_stands_in_etcd_is_read(form: Format | Keyspace, file: str, instance: Instance) -> None:
    """What a framework wrote is found, with all that its format can say, and without a problem."""
    key, value = golden(file)
    decoded = form.decode(*form.parse(key), value)
    assert decoded.instance == instance
    assert decoded.problems == ()


texts = st.text(max_size=10)
instances = st.builds(
    Instance,
    service=st.sampled_from(["product", "user.v1"]),
    address=st.sampled_from(["10.0.0.1:50051", "[::1]:1", "h:65535"]),
    id=st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E, exclude_characters="/"), min_size=1, max_size=9),
    weight=st.integers(1, 1_000_000),
    zone=texts,
    version=texts,
    host=texts,
    metadata=st.dictionaries(texts.filter(lambda name: name not in RESERVED_METADATA), texts, max_size=3),
)


@given(instances, st.booleans())
def test_kratos_gets_and_gives_the_whole_instance(instance: Instance, secure: bool) -> None:
    """All but the state survives, whatever the texts are."""
    form = Kratos(secure=secure)
    assert form.parse(form.key(instance.service, instance.id, 1)) == (instance.service, instance.id)
    decoded = form.decode(instance.service, instance.id, form.value(instance))
    assert decoded.instance == instance
    assert decoded.problems == ()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", "not an object"),
        (b'{"id":"1","name":"products","endpoints":["grpc://h:1"]}', "its name is 'products'"),
        (b'{"id":"1","name":"product","endpoints":null}', "no endpoint for gRPC without TLS"),
        (b'{"id":"1","name":"product","endpoints":[1,"http://h:1","grpcs://h:1","grpc://[h:1"]}', "no endpoint"),
        (b'{"id":"1","name":"product","endpoints":["grpc://h:1?isSecure=true"]}', "no endpoint"),
        (b'{"id":"1","name":"product","endpoints":["grpc://h"]}', "address 'h'"),
    ],
)
def test_kratos_values_that_cannot_be_dialled_are_refused(value: bytes, message: str) -> None:
    """What has no plaintext endpoint of this service is an `InvalidInstance` that says why."""
    with pytest.raises(InvalidInstance, match=message):
        Kratos().decode("product", "1", value)


def test_a_broken_field_of_kratos_takes_its_default_and_is_a_problem() -> None:
    """Weight, version and metadata that are not what they should be hide nobody."""
    decoded = Kratos().decode(
        "product",
        "1",
        b'{"name":"product","version":1,"metadata":{"weight":"0","zone":"a","x":5},"endpoints":["grpc://h:1"]}',
    )
    assert decoded.instance == Instance("product", "h:1", id="1", zone="a")
    assert len(decoded.problems) == 3
    assert Kratos().decode("product", "1", b'{"name":"product","metadata":[],"endpoints":["grpc://h:1"]}').problems


@given(st.binary(max_size=60))
def test_no_bytes_raise_anything_else(value: bytes) -> None:
    """Whatever stands in a key or a value, it gives an instance or `InvalidInstance`."""
    forms: tuple[Format, ...] = Kratos(), GoZero(), GoZero("{service}.rpc")
    for form in forms:
        with contextlib.suppress(InvalidInstance):
            form.decode("product", "1", value)
        with contextlib.suppress(InvalidInstance):
            form.parse(value)


def test_a_key_of_go_zero_may_have_more_than_the_service() -> None:
    """`product.rpc`, as goctl names keys, is the service `product`; keys of another name are nobody's."""
    form = GoZero("rpc/{service}.rpc")
    assert form.key("product", "a1", 5) == b"rpc/product.rpc/5"
    assert form.parse(b"rpc/product.rpc/5") == ("product", "5")
    for key in (b"rpc/product/5", b"product.rpc/5", b"rpc/a/b.rpc/5", b"\xff/5"):
        with pytest.raises(InvalidInstance):
            form.parse(key)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Kratos(namespace="/x/"), "namespace '/x/'"),
        (lambda: Kratos(namespace=""), "namespace ''"),
        (lambda: GoZero("product"), r"has \{service\} in it"),
        (lambda: GoZero("{service}/"), "no '/' at its end"),
        (lambda: format_of("nacos"), "format 'nacos': 'kratos', 'go-zero', or a Format"),
        (lambda: grpc_registry.connect("memory://", also=["nacos"]), "format 'nacos'"),
        (lambda: grpc_registry.connect("etcd://h:1", also=[Kratos(namespace="mesh")]), "among our own, below mesh/"),
        (lambda: grpc_registry.connect("etcd://h:1/a/b", also=[GoZero("a/b/{service}")]), "among our own, below a/b/"),
        (lambda: grpc_registry.connect("etcd://h:1", also=["kratos", Kratos(secure=True)]), "have the same keys"),
    ],
)
def test_settings_that_cannot_work_are_refused(make: object, message: str) -> None:
    """A wrong setting is named when it is given."""
    assert callable(make)
    with pytest.raises(ValueError, match=message):
        make()


def test_an_address_that_a_format_cannot_say_is_refused() -> None:
    """kratos' endpoints are URLs of hosts and ports."""
    with pytest.raises(InvalidInstance, match="no unix sockets"):
        Kratos().value(replace(INSTANCE, address="unix:/tmp/s"))
