from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_services.gateway.escapes import InvalidEscape, unescape
from shop_services.gateway.templates import InvalidTemplate, Variable, Wildcard, parse

ONE, REST = Wildcard.ONE, Wildcard.REST

literals = st.text(alphabet="abcXYZ019-_.~!$&'()+,;@", min_size=1, max_size=6)


def test_a_template_is_literals_wildcards_variables_and_a_verb() -> None:
    """Parsing keeps segments in order, resolves variables to the segments they capture, and takes the verb off."""
    template = parse("/v1/{name=shelves/*/books/**}:cancel")
    assert template.segments == ("v1", "shelves", ONE, "books", REST)
    assert template.variables == (Variable("name", 1, None),)
    assert template.verb == "cancel"
    assert str(template) == "/v1/{name=shelves/*/books/**}:cancel"


@pytest.mark.parametrize(
    ("text", "segments", "variables"),
    [
        ("/v1", ("v1",), ()),
        ("/*/**", (ONE, REST), ()),
        ("/v1/{id}", ("v1", ONE), (Variable("id", 1, 2),)),
        ("/v1/{id=*}", ("v1", ONE), (Variable("id", 1, 2),)),
        ("/v1/{id=fixed}", ("v1", "fixed"), (Variable("id", 1, 2),)),
        ("/v1/{a.b_1.c}/x/{d=y/*}", ("v1", ONE, "x", "y", ONE), (Variable("a.b_1.c", 1, 2), Variable("d", 3, 5))),
        ("/v1/{rest=**}", ("v1", REST), (Variable("rest", 1, None),)),
        ("/v1/a%20b", ("v1", "a b"), ()),
    ],
)
def test_each_form_of_the_grammar_is_taken(text: str, segments: object, variables: object) -> None:
    """Every production of http.proto's grammar parses."""
    template = parse(text)
    assert (template.segments, template.variables) == (segments, variables)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "position 0: expected '/'"),
        ("v1", "position 0: expected '/'"),
        ("/", "position 1: expected a segment"),
        ("/v1/", "position 4: expected a segment"),
        ("/v1//x", "position 4: expected a segment"),
        ("/v1:", "position 4: expected a segment"),
        ("/v1:a/b", "position 5: unexpected text"),
        ("/v1/{}", "position 5: expected the name of a field"),
        ("/v1/{1a}", "position 5: expected the name of a field"),
        ("/v1/{a.}", "position 6: expected '}'"),
        ("/v1/{a", "position 6: expected '}'"),
        ("/v1/{a=}", "position 7: expected a segment"),
        ("/v1/{a={b}}", "position 8: a variable inside a variable"),
        ("/v1/{a}/{a}", "'a' is captured twice"),
        ("/v1/**/x", "'**' must be the last segment"),
        ("/v1/{a=**}/x", "'**' must be the last segment"),
        ("/v1/{a=**/x}", "'**' must be the last segment"),
        ("/v1/***", "unexpected text"),
        ("/v1/a*", "unexpected text"),
        ("/v1/{a}b", "unexpected text"),
        ("/v1/a?b", "unexpected text"),
        ("/v1/%zz", "expected a segment"),
        ("/v1/%ff", "not UTF-8"),
    ],
)
def test_a_broken_template_is_refused_with_the_position(text: str, complaint: str) -> None:
    """What the grammar does not allow raises an error that says where and why."""
    with pytest.raises(InvalidTemplate) as caught:
        parse(text)
    assert complaint in str(caught.value)


@given(st.text())
def test_any_text_parses_or_is_refused(text: str) -> None:
    """No text makes the parser fail in another way than by its own error."""
    try:
        template = parse(text)
    except InvalidTemplate:
        return
    assert template.segments


@given(
    st.lists(st.one_of(literals, st.sampled_from(["*", "{a}"])), min_size=1, max_size=5),
    st.one_of(st.just(""), literals),
)
def test_what_is_written_is_what_is_read(segments: list[str], verb: str) -> None:
    """Literals and wildcards come back as they were written."""
    if segments.count("{a}") > 1:
        return
    template = parse("/" + "/".join(segments) + (f":{verb}" if verb else ""))
    assert template.segments == tuple(ONE if segment in ("*", "{a}") else segment for segment in segments)
    assert template.verb == verb


@given(st.text(min_size=1))
def test_a_single_segment_carries_any_text(value: str) -> None:
    """http.proto: a client encodes all but the unreserved characters of `{var}`, and the server decodes all of them."""
    try:
        encoded = quote(value, safe="-_.~")
    except UnicodeEncodeError:  # half a surrogate pair has no UTF-8
        return
    (variable,) = parse("/v1/{var}").variables
    assert variable.single
    assert variable.capture(["v1", encoded]) == value


@given(st.lists(st.text(), min_size=1))
def test_several_segments_keep_what_separates_them(parts: list[str]) -> None:
    """http.proto: in `{var=**}` slashes separate, and an encoded slash is left encoded."""
    try:
        encoded = [quote(part, safe="-_.~") for part in parts]
    except UnicodeEncodeError:
        return
    (variable,) = parse("/v1/{var=**}").variables
    assert not variable.single
    assert variable.capture(["v1", *encoded]) == "/".join(part.replace("/", "%2F") for part in parts)


def test_an_encoded_slash_is_kept_as_it_was_written() -> None:
    """Neither %2F nor %2f is decoded, and a percent sign before one is not taken for it."""
    assert unescape("a%2Fb%2fc%20d%252F", keep_slash=True) == "a%2Fb%2fc d%2F"


@pytest.mark.parametrize("text", ["%", "%2", "%zz", "a%2gb", "%ff", "%c3%28"])
def test_what_cannot_be_decoded_is_an_error(text: str) -> None:
    """Broken escapes and bytes that are not UTF-8 are never guessed at."""
    with pytest.raises(InvalidEscape):
        unescape(text)
