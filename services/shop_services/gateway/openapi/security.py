"""Who may call an operation, as OpenAPI says it and in words."""

from __future__ import annotations

from typing import Any

from shop_services.runtime.identity.caller import Role
from shop_services.runtime.identity.rules import Rule

_NAME = "accessToken"
SCHEMES: dict[str, Any] = {
    _NAME: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The access token that a login gave.",
    }
}
"""The security schemes that operations ask for."""


def required_of(rule: Rule | None) -> dict[str, Any]:
    """The member `security` of an operation, with the roles that may; none if nothing is known about who may call it.

    OpenAPI: "For other security scheme types, the array MAY contain a list of role names which are required for the
    execution", and one of several requirements is enough.
    """
    if rule is None:
        return {}
    return {"security": [{_NAME: [str(role)]} for role in _roles(rule)]}


def said_of(rule: Rule | None) -> str:
    """The same as a sentence."""
    if rule is None:
        return ""
    if rule.anyone:
        return "Anyone may call this, without a token."
    own = "customers for what is their own"
    names = [own if role is Role.CUSTOMER else f"{role}s" for role in _roles(rule)]
    return f"Who may call this: {', '.join(names)}." if names else "Only services of the shop may call this."


def _roles(rule: Rule) -> list[Role]:
    return [role for role in Role if role in rule.roles]
