"""The value of an instance's key: the JSON of etcd's own gRPC naming, which its Go resolver reads too.

    {"Op":0,"Addr":"10.0.0.1:50051","Metadata":{"weight":100,"state":"serving","zone":"a","version":"1.4.0","host":"h1"}}

Other clients of that naming write what they like into `Metadata`, or null. To find such an instance with default values
is better than to hide it, so only a value without a usable `Addr` is unreadable; a field of `Metadata` that breaks the
contract, or a `Metadata` that is no object, counts as absent and is a problem to be logged. `Op` is not looked at:
removal is the deletion of the key.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from grpc_registry.errors import InvalidInstance
from grpc_registry.instance import (
    DEFAULT_WEIGHT,
    RESERVED_METADATA,
    Instance,
    State,
    check_address,
    check_state,
    check_weight,
)


@dataclass(frozen=True, slots=True)
class Decoded:
    """An instance as read, and what was passed over in it."""

    instance: Instance
    problems: tuple[str, ...] = ()


def encode(instance: Instance) -> bytes:
    """The compact JSON of `instance`, fields in the order of the contract."""
    metadata = {
        "weight": instance.weight,
        "state": instance.state.value,
        "zone": instance.zone,
        "version": instance.version,
        "host": instance.host,
        **instance.metadata,
    }
    return _dump({"Op": 0, "Addr": instance.address, "Metadata": metadata})


def decode(service: str, instance_id: str, value: bytes) -> Decoded:
    """What `value` says. Raises `InvalidInstance` if it has no usable address."""
    document = load_object(value)
    metadata, problems = document.get("Metadata"), []
    if metadata is not None and not isinstance(metadata, dict):
        problems.append(f"Metadata is not an object but {kind_of(metadata)}")
    fields: dict[str, Any] = metadata if isinstance(metadata, dict) else {}
    weight, state, texts = DEFAULT_WEIGHT, State.SERVING, {}
    try:
        weight = check_weight(fields.get("weight", weight))
    except InvalidInstance as error:
        problems.append(str(error))
    try:
        state = State(fields.get("state", state))
    except ValueError:
        problems.append(f"state {fields['state']!r}: 'serving' or 'draining'")
    for name in ("zone", "version", "host"):
        text = fields.get(name, "")
        if isinstance(text, str):
            texts[name] = text
        else:
            problems.append(f"{name} is not text but {kind_of(text)}")
    instance = Instance(
        service,
        check_address(document.get("Addr", "")),
        id=instance_id,
        weight=weight,
        state=state,
        metadata={name: value for name, value in fields.items() if name not in RESERVED_METADATA},
        **texts,
    )
    return Decoded(instance, tuple(problems))


def edit(value: bytes, *, weight: int | None = None, state: State | None = None) -> bytes:
    """`value` with another weight or state; everything else in it, known or not, stays as it is.

    Raises:
        InvalidInstance: the new value breaks the contract, or `value` does so much that it cannot be edited.
    """
    document = load_object(value)
    check_address(document.get("Addr", ""))
    metadata = document.get("Metadata")
    if metadata is None:
        metadata = document["Metadata"] = {}
    if not isinstance(metadata, dict):
        raise InvalidInstance(f"its Metadata is not an object but {kind_of(metadata)}, so it cannot be edited")
    if weight is not None:
        metadata["weight"] = check_weight(weight)
    if state is not None:
        metadata["state"] = check_state(state).value
    return _dump(document)


def load_object(value: bytes) -> dict[str, Any]:
    """The JSON object that `value` is. Raises `InvalidInstance`."""
    try:
        document = json.loads(value, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInstance(f"the value is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise InvalidInstance(f"the value is not an object but {kind_of(document)}")
    return document


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not in JSON")


def _dump(document: dict[str, Any]) -> bytes:
    try:
        return json.dumps(document, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:  # a number such as 1e999, which Python reads as infinity
        raise InvalidInstance("the value has a number that JSON cannot hold") from None


def kind_of(value: object) -> str:
    """What JSON calls the kind of `value`."""
    return {str: "text", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}.get(
        type(value), "null"
    )
