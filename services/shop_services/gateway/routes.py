"""Which template a request is meant for.

All templates share one tree, a level a segment, and verbs and HTTP methods at its leaves. A literal goes before `*`,
and `*` before `**`, from left to right, so that the order in which routes were added never matters; two routes that no
path could tell apart are refused when the second is added.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from shop_services.gateway.escapes import unescape
from shop_services.gateway.templates import Template, Wildcard

ANY_METHOD = "*"
"""A route's method that stands for all of them (http.proto: a custom pattern of kind `*`)."""

T = TypeVar("T")


class Conflict(ValueError):
    """Two routes match exactly the same requests; the message names both."""


class NoRoute(LookupError):
    """No route has this path."""


class WrongMethod(LookupError):
    """Routes have this path, but none with this method; `allowed` are theirs, sorted."""

    def __init__(self, allowed: Sequence[str]) -> None:
        super().__init__(f"only {', '.join(allowed)}")
        self.allowed = tuple(allowed)


@dataclass(frozen=True, slots=True)
class Route(Generic[T]):
    """A method and a template, and what they lead to."""

    method: str
    template: Template
    target: T

    def __str__(self) -> str:
        return f"{self.method} {self.template}"


@dataclass(frozen=True, slots=True)
class Match(Generic[T]):
    """A route, and the decoded value of each of its template's variables."""

    route: Route[T]
    captured: tuple[str, ...]


_Leaf = dict[str, Route[T]]  # by method


@dataclass(slots=True)
class _Branch(Generic[T]):
    literals: dict[str, _Branch[T]] = field(default_factory=dict)
    any_one: _Branch[T] | None = None
    ends: dict[str, _Leaf[T]] = field(default_factory=dict)  # by verb: the template ends here
    rests: dict[str, _Leaf[T]] = field(default_factory=dict)  # by verb: the template goes on with `**`


class Routes(Generic[T]):
    """A set of routes, searched in a time that depends on the length of the path, not on how many routes there are."""

    def __init__(self) -> None:
        self._root: _Branch[T] = _Branch()
        self._verbs: set[str] = set()

    def add(self, method: str, template: Template, target: T) -> None:
        """Add a route; `method` is upper case, or `ANY_METHOD`. Raises `Conflict`."""
        branch = self._root
        rest = False
        for segment in template.segments:
            if segment is Wildcard.REST:
                rest = True
            elif segment is Wildcard.ONE:
                branch.any_one = branch.any_one or _Branch()
                branch = branch.any_one
            else:
                branch = branch.literals.setdefault(segment, _Branch())
        leaf = (branch.rests if rest else branch.ends).setdefault(template.verb, {})
        route = Route(method, template, target)
        if known := leaf.get(method):
            raise Conflict(f"{route} ({target}) matches the same requests as {known} ({known.target})")
        leaf[method] = route
        if template.verb:
            self._verbs.add(template.verb)

    def match(self, method: str, path: str) -> Match[T]:
        """The route for `method` and the percent-encoded `path` (without a query).

        Text after the last colon of the path is a verb if a template with that verb matches the rest, and part of the
        last segment otherwise; a client that means the latter for sure sends `%3A`. HEAD is served by GET's route
        where it has none of its own (RFC 9110, section 9.3.2).

        Raises:
            NoRoute: nothing matches the path.
            WrongMethod: something does, under other methods.
            InvalidEscape: the path cannot be decoded.
        """
        if not path.startswith("/"):
            raise NoRoute
        segments = path[1:].split("/")
        stem, colon, verb = segments[-1].rpartition(":")
        if colon and verb in self._verbs:
            try:
                return self._match(method, [*segments[:-1], stem], verb)
            except NoRoute:
                pass
        return self._match(method, segments, "")

    def _match(self, method: str, segments: list[str], verb: str) -> Match[T]:
        texts = [unescape(segment) for segment in segments]
        allowed: set[str] = set()
        for leaf in self._leaves(self._root, texts, 0, verb):
            route = leaf.get(method) or (leaf.get("GET") if method == "HEAD" else None) or leaf.get(ANY_METHOD)
            if route is not None:
                return Match(route, tuple(variable.capture(segments) for variable in route.template.variables))
            allowed.update(leaf)
        if not allowed:
            raise NoRoute
        if "GET" in allowed:
            allowed.add("HEAD")
        raise WrongMethod(sorted(allowed))

    def _leaves(self, branch: _Branch[T], texts: Sequence[str], depth: int, verb: str) -> Iterator[_Leaf[T]]:
        """The leaves that match, the most literal first. Visits no branch twice, so it cannot explode."""
        if depth == len(texts):
            if leaf := branch.ends.get(verb):
                yield leaf
        else:
            if literal := branch.literals.get(texts[depth]):
                yield from self._leaves(literal, texts, depth + 1, verb)
            if branch.any_one and texts[depth]:  # `*` is a segment, and an empty one names nothing
                yield from self._leaves(branch.any_one, texts, depth + 1, verb)
        if leaf := branch.rests.get(verb):
            yield leaf
