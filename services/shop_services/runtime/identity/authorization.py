"""The interceptor that lets nobody call what the rules of the protos do not let them."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass

from google.protobuf.message import Message

from shop_services.runtime.errors import PermissionDenied, Unauthenticated
from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.identity.caller import Anonymous, Caller, Person, Role, called_by
from shop_services.runtime.identity.rules import Rule, owner_in, rule_of, set_owner
from shop_services.runtime.interceptor import CallInterceptor, ServedCall
from shop_services.runtime.tls import peer_names

_INSIDE = nullcontext()


@dataclass(frozen=True, slots=True)
class _Own:
    """Whose things a call may be about, and the field of its requests that says whose they are."""

    path: tuple[str, ...]
    customer: str


_own: ContextVar[_Own | None] = ContextVar("shop_own", default=None)


class Authorization(CallInterceptor):
    """Tells who calls (`caller()` says it to whatever runs for the call), and ends what they may not.

    UNAUTHENTICATED: a token is no good, or is missing where one is needed (TOKEN_REQUIRED). PERMISSION_DENIED: the RPC
    has no rule (NO_ACCESS_RULE), its rule does not name who calls (ROLE_REQUIRED), or the request is about what is
    another customer's (NOT_YOURS). An empty field for the owner is filled in, before the request is validated.
    """

    def __init__(self, authority: Authority) -> None:
        super().__init__()
        self._authority = authority
        self._rules: dict[str, Rule | None] = {}  # as many as there are methods

    def around(self, call: ServedCall) -> AbstractAsyncContextManager[None]:
        # No generator: this runs for every call, and has nothing to do at its end.
        authority = self._authority
        names = peer_names(call.context) if authority.certificates else ()
        caller = authority.identify(call.context.invocation_metadata(), names)
        called_by(caller)
        rule = self._rule(call.method)
        if not rule.admits(caller):
            _refuse(caller)
        own = None
        if rule.owner and isinstance(caller, Person) and caller.role is Role.CUSTOMER:
            own = _Own(rule.owner, caller.id)
        _own.set(own)
        return _INSIDE

    def check(self, request: Message) -> None:
        own = _own.get()
        if own is None:
            return
        owner = owner_in(request, own.path)
        if not owner:
            set_owner(request, own.path, own.customer)
        elif owner != own.customer:
            field = ".".join(own.path)
            raise PermissionDenied(f"{field}: is another's", reason="NOT_YOURS", metadata={"field": field})

    def _rule(self, method: str) -> Rule:
        if method not in self._rules:
            self._rules[method] = rule_of(method)
        rule = self._rules[method]
        if rule is None:
            raise PermissionDenied("nothing says who may call this", reason="NO_ACCESS_RULE")
        return rule


def _refuse(caller: Caller) -> None:
    if isinstance(caller, Anonymous):
        raise Unauthenticated("a token is needed for this", reason="TOKEN_REQUIRED")
    who = f"the role {caller.role}" if isinstance(caller, Person) else f"the service {caller.name!r}"
    raise PermissionDenied(f"{who} may not call this", reason="ROLE_REQUIRED")
