"""Who may call an RPC, as its proto says by the option `shop.access.v1.access`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message

from shop.access.v1 import access_pb2
from shop_services.runtime.identity.caller import Anonymous, Caller, Person, Role

_ROLES = {access_pb2.ROLE_CUSTOMER: Role.CUSTOMER, access_pb2.ROLE_ADMIN: Role.ADMIN}


class InvalidRule(ValueError):
    """A rule makes no sense: a defect of the proto that it is in. The message names the RPC."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may call an RPC: `anyone`, or persons of `roles` and the services named `services`.

    A customer may only with what is their own: the field of the request at the path `owner` names them, or whose it is
    shows in the resource alone, and the service looks (`owner_in_resource`).
    """

    anyone: bool = False
    roles: frozenset[Role] = frozenset()
    services: frozenset[str] = frozenset()
    owner: tuple[str, ...] = ()
    owner_in_resource: bool = False

    def admits(self, caller: Caller) -> bool:
        """Whether `caller` may call it, at least with some requests."""
        if self.anyone or isinstance(caller, Anonymous):
            return self.anyone
        return caller.role in self.roles if isinstance(caller, Person) else caller.name in self.services


def rule_of(method: str) -> Rule | None:
    """The rule of the RPC with the path `/package.Service/Method`; None if it has none, or no proto known here has it.

    Raises:
        InvalidRule: what the proto says makes no sense.
    """
    service, _, name = method.removeprefix("/").partition("/")
    try:
        described = descriptor_pool.Default().FindServiceByName(service).methods_by_name.get(name)
    except KeyError:
        return None
    return None if described is None else rule_in(described)


def rule_in(method: MethodDescriptor) -> Rule | None:
    """The rule of an RPC; None if it has none. Raises `InvalidRule`."""
    options = method.GetOptions()
    if not options.HasExtension(access_pb2.access):
        return None
    access = options.Extensions[access_pb2.access]
    try:
        rule = Rule(
            anyone=access.anyone,
            roles=frozenset(_ROLES[role] for role in access.roles),
            services=frozenset(access.services),
            owner=tuple(access.owner.split(".")) if access.owner else (),
            owner_in_resource=access.owner_in_resource,
        )
    except KeyError as error:
        raise InvalidRule(f"{method.full_name}: no person has the role {error}") from None
    if flaw := _flaw(rule, method.input_type):
        raise InvalidRule(f"{method.full_name}: {flaw}")
    return rule


def check_rules(services: Iterable[str]) -> None:
    """Look at the rules of all RPCs of these gRPC services, as far as their protos are known. Raises `InvalidRule`."""
    for service in services:
        try:
            described = descriptor_pool.Default().FindServiceByName(service)
        except KeyError:  # nothing says who may call it, so nobody may
            continue
        for method in described.methods:
            rule_in(method)


def owner_in(request: Message, path: tuple[str, ...]) -> str:
    """The id in the field at `path`, empty if it is not set."""
    for part in path[:-1]:
        request = getattr(request, part)
    owner: str = getattr(request, path[-1])
    return owner


def set_owner(request: Message, path: tuple[str, ...], owner: str) -> None:
    """Put an id into the field at `path`."""
    for part in path[:-1]:
        request = getattr(request, part)
    setattr(request, path[-1], owner)


def _flaw(rule: Rule, request: Descriptor) -> str:
    """What makes no sense about a rule; empty if it does."""
    if rule.anyone:
        return "" if rule == Rule(anyone=True) else "if anyone may call, nothing else can be said of who"
    if not (rule.roles or rule.services):
        return "nobody may call"
    if "" in rule.services:
        return "a service without a name may call"
    if (Role.CUSTOMER in rule.roles) is not (bool(rule.owner) is not rule.owner_in_resource):
        return "whose things they are is said in one way if customers may call, and else not at all"
    return _flaw_of_path(rule.owner, request) if rule.owner else ""


def _flaw_of_path(path: tuple[str, ...], request: Descriptor) -> str:
    message: Descriptor | None = request
    field: FieldDescriptor | None = None
    for part in path:
        field = None if message is None else message.fields_by_name.get(part)
        if field is None or field.is_repeated:
            return f"the owner cannot be in {'.'.join(path)}"
        message = field.message_type
    text = field is not None and field.type == FieldDescriptor.TYPE_STRING
    return "" if text else f"the owner in {'.'.join(path)} is no text"
