"""The format of kratos' registry in etcd (github.com/go-kratos/kratos, contrib/registry/etcd, v2 and v3).

    /microservices/product/a1
    {"id":"a1","name":"product","version":"1.4.0","metadata":{"weight":"100"},"endpoints":["grpc://10.0.0.1:50051"]}

It is the JSON that Go makes of `registry.ServiceInstance`: members in the order of the struct, those of a map sorted.
`metadata` is text to text; kratos' selectors read `weight` from it, `zone` and `host` are ours. An endpoint's scheme
says whether it speaks TLS (`grpcs`). Before v2.3.1 a query did, `grpc://…?isSecure=true`, which is read here as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from grpc_registry.errors import InvalidInstance
from grpc_registry.etcd.keys import Keyspace
from grpc_registry.etcd.naming import Decoded, kind_of, load_object
from grpc_registry.instance import DEFAULT_WEIGHT, RESERVED_METADATA, Instance, check_address, check_weight

# What Go escapes in JSON though JSON does not ask for it, so that the text can stand in a page of HTML or JavaScript.
_ESCAPES = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})

_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})  # for Go's strconv.ParseBool


@dataclass(frozen=True, slots=True)
class Kratos:
    """`namespace` as in kratos' `etcd.Namespace`; `secure`: the endpoints to write, and to look for, speak TLS."""

    namespace: str = "/microservices"
    secure: bool = False

    def __post_init__(self) -> None:
        if not self.namespace or self.namespace.endswith("/"):
            raise ValueError(f"namespace {self.namespace!r}: not empty, and without a '/' at its end")

    def prefix(self, service: str) -> bytes:
        return f"{self.namespace}/{service}/".encode()

    def key(self, service: str, instance_id: str, lease: int) -> bytes:
        return f"{self.namespace}/{service}/{instance_id}".encode()

    def value(self, instance: Instance) -> bytes:
        if instance.address.startswith("unix:"):
            raise InvalidInstance(f"address {instance.address!r}: kratos knows no unix sockets")
        metadata = {
            name: value if isinstance(value, str) else _dump(value) for name, value in instance.metadata.items()
        }
        metadata["weight"] = str(instance.weight)
        metadata |= {name: text for name in ("zone", "host") if (text := getattr(instance, name))}
        address = instance.address.replace("%", "%25")  # of an IPv6 zone, as Go writes it in a URL
        document = {
            "id": instance.id,
            "name": instance.service,
            "version": instance.version,
            "metadata": dict(sorted(metadata.items())),
            "endpoints": [f"{'grpcs' if self.secure else 'grpc'}://{address}"],
        }
        return _dump(document).translate(_ESCAPES).encode("utf-8", "replace")

    def parse(self, key: bytes) -> tuple[str, str]:
        return Keyspace(self.namespace).parse(key)

    def decode(self, service: str, instance_id: str, value: bytes) -> Decoded:
        document = load_object(value)
        if document.get("name") != service:  # kratos looks for a name's prefix among the keys, and at the name itself
            raise InvalidInstance(f"its name is {document.get('name')!r}")
        texts, problems = _texts(document.get("metadata"))
        weight = DEFAULT_WEIGHT
        try:
            weight = check_weight(int(texts.get("weight", weight)))
        except ValueError:
            problems.append(f"weight {texts['weight']!r}")
        version = document.get("version", "")
        if not isinstance(version, str):
            problems.append(f"version is not text but {kind_of(version)}")
            version = ""
        instance = Instance(
            service,
            self._address(document.get("endpoints")),
            id=instance_id,
            weight=weight,
            zone=texts.get("zone", ""),
            host=texts.get("host", ""),
            version=version,
            metadata={name: text for name, text in texts.items() if name not in RESERVED_METADATA},
        )
        return Decoded(instance, tuple(problems))

    def _address(self, endpoints: object) -> str:
        for endpoint in endpoints if isinstance(endpoints, list) else []:
            try:
                url = urlsplit(endpoint if isinstance(endpoint, str) else "")
            except ValueError:
                continue
            tls = url.scheme == "grpcs" or not _TRUE.isdisjoint(parse_qs(url.query).get("isSecure", ()))
            if url.scheme in ("grpc", "grpcs") and tls == self.secure:
                return check_address(unquote(url.netloc))
        raise InvalidInstance(f"it has no endpoint for gRPC {'with' if self.secure else 'without'} TLS: {endpoints!r}")


def _texts(metadata: object) -> tuple[dict[str, str], list[str]]:
    """The metadata as the map from text to text that it has to be, and what in it is something else."""
    if metadata is None:
        return {}, []
    if not isinstance(metadata, dict):
        return {}, [f"metadata is not an object but {kind_of(metadata)}"]
    texts = {name: value for name, value in metadata.items() if isinstance(value, str)}
    return texts, [f"{name} is not text but {kind_of(metadata[name])}" for name in metadata if name not in texts]


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
