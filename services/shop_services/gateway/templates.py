"""Path templates of `google.api.http`: what one says, and what it captures of a path.

    Template  = "/" Segments [ Verb ] ;
    Segments  = Segment { "/" Segment } ;
    Segment   = "*" | "**" | LITERAL | Variable ;
    Variable  = "{" FieldPath [ "=" Segments ] "}" ;
    FieldPath = IDENT { "." IDENT } ;
    Verb      = ":" LITERAL ;

A template knows nothing of messages or of other templates; `routes` finds the one that a path is meant for.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass

from shop_services.gateway.escapes import InvalidEscape, unescape

# RFC 3986: the characters of a path segment, but for ":" (which begins a verb), and "*", "=" (which are the grammar's).
_LITERAL = re.compile(r"(?:[A-Za-z0-9._~!$&'()+,;@-]|%[0-9A-Fa-f]{2})+")
_FIELD_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")


class InvalidTemplate(ValueError):
    """A template breaks the grammar; the message says where."""


class Wildcard(enum.Enum):
    """A segment of a template that stands for any text: of one segment, or of all that are left (none included)."""

    ONE = "*"
    REST = "**"


Segment = str | Wildcard


@dataclass(frozen=True, slots=True)
class Variable:
    """A field and the segments it captures: from `start` up to `stop`, or to the end of the path if `stop` is None."""

    field_path: str
    start: int
    stop: int | None

    @property
    def single(self) -> bool:
        """Whether it captures exactly one segment, and so text that may hold any character, `/` included."""
        return self.stop == self.start + 1

    def capture(self, segments: Sequence[str]) -> str:
        """The decoded value from the segments of a path as they came. Raises `InvalidEscape`.

        http.proto: a variable of one segment is decoded whole; in one of several, "%2F" and "%2f" are left unchanged,
        since a decoded one could not be told from a separator.
        """
        if self.single:
            return unescape(segments[self.start])
        return unescape("/".join(segments[self.start : self.stop]), keep_slash=True)


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template. `segments` has no variables left in it: literals (decoded) and wildcards."""

    text: str
    segments: tuple[Segment, ...]
    variables: tuple[Variable, ...]
    verb: str

    def __str__(self) -> str:
        return self.text


def parse(text: str) -> Template:
    """The template that `text` spells. Raises `InvalidTemplate`."""
    return _Parser(text).template()


class _Parser:
    """Reads one template from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._segments: list[Segment] = []
        self._variables: list[Variable] = []

    def template(self) -> Template:
        self._expect("/")
        self._read_segments(in_variable=False)
        verb = ""
        if self._skip(":"):
            verb = self._literal()
        if self._at != len(self._text):
            raise self._error("unexpected text")
        return Template(self._text, tuple(self._segments), tuple(self._variables), verb)

    def _read_segments(self, *, in_variable: bool) -> None:
        while True:
            if self._segments and self._segments[-1] is Wildcard.REST:
                raise self._error("'**' must be the last segment")
            if self._skip("**"):
                self._segments.append(Wildcard.REST)
            elif self._skip("*"):
                self._segments.append(Wildcard.ONE)
            elif self._skip("{"):
                if in_variable:
                    raise self._error("a variable inside a variable")
                self._read_variable()
            else:
                self._segments.append(self._literal())
            if not self._skip("/"):
                return

    def _read_variable(self) -> None:
        match = _FIELD_PATH.match(self._text, self._at)
        if match is None:
            raise self._error("expected the name of a field")
        self._at = match.end()
        if any(known.field_path == match[0] for known in self._variables):
            raise self._error(f"{match[0]!r} is captured twice")
        start = len(self._segments)
        if self._skip("="):
            self._read_segments(in_variable=True)
        else:
            self._segments.append(Wildcard.ONE)
        self._expect("}")
        stop = None if self._segments[-1] is Wildcard.REST else len(self._segments)
        self._variables.append(Variable(match[0], start, stop))

    def _literal(self) -> str:
        match = _LITERAL.match(self._text, self._at)
        if match is None:
            raise self._error("expected a segment")
        self._at = match.end()
        try:
            return unescape(match[0])
        except InvalidEscape as error:
            raise self._error(str(error)) from None

    def _skip(self, token: str) -> bool:
        found = self._text.startswith(token, self._at)
        if found:
            self._at += len(token)
        return found

    def _expect(self, token: str) -> None:
        if not self._skip(token):
            raise self._error(f"expected {token!r}")

    def _error(self, what: str) -> InvalidTemplate:
        return InvalidTemplate(f"template {self._text!r}, position {self._at}: {what}")
