"""Which statuses the document gives to an operation, and who it says may call it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from google.rpc import code_pb2

from shop_services.gateway.openapi.security import required_of, said_of
from shop_services.gateway.openapi.statuses import Statuses, named_in
from shop_services.gateway.rules import Rule, rules_of
from shop_services.runtime.identity.caller import Role
from shop_services.runtime.identity.rules import Rule as AccessRule
from tests.unit.services.gateway import zoo
from tests.unit.services.gateway.openapi.test_document import SHOP

ALWAYS = {"400", "408", "429", "431", "499", "500", "503", "504"}
ANYONE = AccessRule(anyone=True)
ADMINS = AccessRule(roles=frozenset({Role.ADMIN}))
OWNERS = AccessRule(roles=frozenset(Role), owner=("user_id",))
OWNERS_OF_RESOURCES = AccessRule(roles=frozenset(Role), owner_in_resource=True)
SERVICES_ALONE = AccessRule(services=frozenset({"order"}))


def rule(rpc: str, number: int = 0) -> Rule:
    return next(each for each in rules_of(zoo.service()) if each.rpc.name == rpc and each.number == number)


def statuses(
    rpc: str = "Sleep", comment: str = "", access: AccessRule | None = None, number: int = 0
) -> dict[str, Any]:
    return Statuses({}).of(rule(rpc, number), comment, access)


@pytest.mark.parametrize(
    ("rpc", "number", "more"),
    [("Sleep", 0, set()), ("Echo", 1, set()), ("Echo", 0, {"413", "415"}), ("Watch", 0, {"406"})],
)
def test_what_the_gateway_adds(rpc: str, number: int, more: set[str]) -> None:
    """Any request may be wrong, late or one too many; a body may be too large, and a stream not what is accepted."""
    assert statuses(rpc, number=number).keys() == ALWAYS | more


@pytest.mark.parametrize(
    ("access", "more"),
    [
        (ANYONE, {"401"}),
        (ADMINS, {"401", "403"}),
        (OWNERS, {"401", "403"}),
        (OWNERS_OF_RESOURCES, {"401"}),
        (SERVICES_ALONE, {"401", "403"}),
    ],
)
def test_what_the_rule_of_access_adds(access: AccessRule, more: set[str]) -> None:
    """A token may be bad wherever one may be sent; a good one is refused where somebody who has one may not call."""
    assert statuses(access=access).keys() == ALWAYS | more


def test_what_the_comment_adds() -> None:
    """Each error that it names is there with its words, those of one status together, the general one first."""
    comment = (
        "It does something. NOT_FOUND: there is\nnone.\n\nABORTED: the etag is another. ALREADY_EXISTS: the name\n"
        "is taken. OUT_OF_RANGE: too far."
    )
    made = statuses(comment=comment)
    assert made.keys() == ALWAYS | {"404", "409"}
    assert made["404"]["description"] == "NOT_FOUND: there is none."
    assert made["409"]["description"] == "- ABORTED: the etag is another.\n- ALREADY_EXISTS: the name is taken."
    assert made["400"]["description"].splitlines()[1:] == ["- OUT_OF_RANGE: too far."]
    assert made["400"]["description"].startswith("- INVALID_ARGUMENT: ")
    example = made["404"]["content"]["application/json"]["example"]
    assert example == {"code": code_pb2.NOT_FOUND, "message": "there is none.", "details": []}


def test_a_bad_token_is_named_beside_what_the_comment_says_of_401() -> None:
    """Where anyone may call, two different things end with 401."""
    made = statuses(comment="UNAUTHENTICATED: wrong password.", access=ANYONE)["401"]
    assert made["description"].splitlines() == [
        "- UNAUTHENTICATED: a token was sent, and is not good.",
        "- UNAUTHENTICATED: wrong password.",
    ]
    assert made["headers"].keys() == {"WWW-Authenticate"}


def test_the_comments_of_the_shop_name_codes_as_there_are() -> None:
    """No comment of an RPC has a misspelled code, which would document nothing."""
    found = set()
    for path in SHOP["paths"].values():
        for each in path.values():
            found |= set(re.findall(r"\b([A-Z][A-Z_]{3,}): ", each["description"]))
            assert {code for code, _ in named_in(each["description"])} <= {*code_pb2.Code.values()}
    assert found <= {*code_pb2.Code.keys()}
    assert {"NOT_FOUND", "ABORTED", "ALREADY_EXISTS"} <= found


@pytest.mark.parametrize(
    ("access", "security", "said"),
    [
        (ANYONE, [], "Anyone may call this, without a token."),
        (ADMINS, [{"accessToken": ["admin"]}], "Who may call this: admins."),
        (
            OWNERS,
            [{"accessToken": ["customer"]}, {"accessToken": ["admin"]}],
            "Who may call this: customers for what is their own, admins.",
        ),
    ],
)
def test_who_may_call_is_said_twice(access: AccessRule, security: Any, said: str) -> None:
    """For programs as one requirement for each role, of which one is enough, and for people as a sentence."""
    assert required_of(access) == {"security": security}
    assert said_of(access) == said


def test_every_operation_of_the_shop_says_who_may_call_it() -> None:
    """None is left to a default, and each can be called by somebody from outside."""
    for path in SHOP["paths"].values():
        for each in path.values():
            assert "security" in each
            assert re.search(r"\n(Anyone|Who) may call this", each["description"])
