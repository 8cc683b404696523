"""Partial updates change what they name, of the state that they were based on."""

from __future__ import annotations

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from shop.user.v1.user_pb2 import User
from shop_services.runtime.errors import Aborted, InvalidArgument
from shop_services.runtime.etags import check_etag, etag
from shop_services.runtime.masks import changed_fields

MUTABLE = ("email", "username", "display_name", "profile")


def test_a_mask_names_the_fields_to_change() -> None:
    """Also those that are empty in the message, which are to be emptied."""
    user = User(email="a@b.c", username="ann")
    assert changed_fields(FieldMask(paths=["email", "display_name"]), user, MUTABLE) == {"email", "display_name"}


def test_an_empty_mask_means_every_mutable_field_that_is_set() -> None:
    """Identifiers and what the server sets are left alone."""
    user = User(id="u", etag="e", email="a@b.c", display_name="")
    user.profile.update({})
    user.profile.SetInParent()
    assert changed_fields(FieldMask(), user, MUTABLE) == {"email", "profile"}


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("colour", "'colour' is not a field of User"),
        ("id", "'id' cannot be changed; these can: display_name, email, profile, username"),
        (
            "profile.x.y",
            "'profile.x.y' is inside of 'profile', which can only be changed as a whole",
        ),
        ("profile.fields", "'profile.fields' is inside of 'profile', which can only be changed as a whole"),
        ("", "'' is not a field of User"),
        ("*", "'*' is not a field of User"),
    ],
)
def test_a_wrong_path_is_refused_by_name(path: str, why: str) -> None:
    """Unknown, immutable and nested paths are told apart."""
    with pytest.raises(InvalidArgument) as caught:
        changed_fields(FieldMask(paths=["email", path]), User(), MUTABLE)
    assert caught.value.violations == (("update_mask", why),)


def test_nothing_to_change_is_refused() -> None:
    """An update of no field is a mistake of the caller's."""
    with pytest.raises(InvalidArgument, match="names nothing to change"):
        changed_fields(FieldMask(), User(id="u"), MUTABLE)


def test_an_etag_is_of_one_state_of_one_thing() -> None:
    """Another kind, id or version has another etag."""
    marks = {etag("user", "u", 1), etag("user", "u", 2), etag("user", "v", 1), etag("product", "u", 1)}
    assert len(marks) == 4
    assert etag("user", "u", 1) in marks


def test_a_change_based_on_another_state_is_aborted() -> None:
    """The etag of the present state passes, and so does none; every other is refused."""
    check_etag(etag("user", "u", 2), "user", "u", 2)
    check_etag("", "user", "u", 2)
    for wrong in (etag("user", "u", 1), "x", "é"):
        with pytest.raises(Aborted):
            check_etag(wrong, "user", "u", 2)
