"""The message that an HTTP request stands for: fields from its path, its query and its body."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from shop_services.gateway.escapes import InvalidEscape, unescape
from shop_services.gateway.fields import FieldPath, resolve, spelled, takes_text, text_setter
from shop_services.gateway.httpbody import raw_request
from shop_services.gateway.presence import given_paths
from shop_services.gateway.protojson import FieldError, field_reader, loads, message_reader
from shop_services.gateway.protojson.reader import MAX_DEPTH
from shop_services.gateway.protojson.wellknown import is_special
from shop_services.gateway.rules import WHOLE, Rule


class Binder:
    """Makes the request message of one rule.

    A field that the path binds may be given again in the body, since clients send back whole resources, but not with
    another value. It may not be given again in the query.
    """

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._make = message_factory.GetMessageClass(rule.rpc.input_type)
        self._read_body = _body_reader(rule)
        self._raw_in = raw_request(rule)
        self._path = [_PathField(path, self._in_body(path)) for path in rule.bound]
        self._derive_mask = _mask_deriver(rule)
        self._parameter = lru_cache(maxsize=256)(self._find_parameter)

    @property
    def raw(self) -> bool:
        """Whether the body may be of any type: it is bytes for a `google.api.HttpBody`, and not JSON."""
        return self._raw_in is not None

    def bind(self, captured: Sequence[str], query: str, body: bytes, content_type: str = "") -> Any:
        """The message for what the path captured, the query as it came, and the body.

        Raises:
            FieldError: a value does not fit its field, or names one that does not exist. Its path is empty if the body
                as a whole is wrong.
        """
        message: Any = self._make()
        json = None
        if self._raw_in is not None:
            raw = self._raw_in(message)
            raw.content_type, raw.data = content_type, body
        elif body:
            if self._read_body is None:
                raise FieldError("", "must be empty: this method takes its input from the path and the query")
            json = loads(body)
            self._read_body(json, message)
        if query:
            self._read_query(message, query)
        for field, text in zip(self._path, captured, strict=True):
            field.set(message, text)
        if self._derive_mask is not None and json is not None:
            self._derive_mask(message, json)
        return message

    def _read_query(self, message: Message, query: str) -> None:
        given: set[str] = set()
        for name, text in _parameters(query):
            path, put = self._parameter(name)
            whole = spelled(path)
            if not path[-1].is_repeated and whole in given:
                raise FieldError(whole, "is given twice")
            given.add(whole)
            put(message, text)

    def _find_parameter(self, name: str) -> tuple[FieldPath, Callable[[Message, str], None]]:
        if self._rule.body == WHOLE:
            raise FieldError(name or "''", "unknown query parameter: this method takes all fields in its body")
        try:
            path = resolve(self._rule.rpc.input_type, name)
        except FieldError:
            raise FieldError(name or "''", "unknown query parameter") from None
        if any(is_special(step.message_type) for step in path[:-1] if step.message_type is not None):
            raise FieldError(name, "unknown query parameter")  # there are Timestamps that no JSON can say
        if path in self._rule.bound:
            raise FieldError(name, "is given by the path, and cannot be a query parameter too")
        if self._in_body(path):
            raise FieldError(name, "belongs in the body, and cannot be a query parameter")
        if not takes_text(path[-1]):
            raise FieldError(name, "cannot be a query parameter: it is a message, a map or a list of messages")
        return path, text_setter(path)

    def _in_body(self, path: FieldPath) -> bool:
        return self._rule.body == WHOLE or path[0] is self._rule.body


class _PathField:
    """A field that the path binds; `shared`: the body can have it as well."""

    def __init__(self, path: FieldPath, shared: bool) -> None:
        self._put = text_setter(path)
        self._path = path
        self._shared = shared

    def set(self, message: Message, text: str) -> None:
        before = self._get(message) if self._shared else None
        self._put(message, text)
        if before is not None and before != self._get(message):
            raise FieldError(spelled(self._path), f"the body has another value than the path, which says {text!r}")

    def _get(self, message: Any) -> Any:
        """The value, or None if it is not set (a field without presence: if it has its default)."""
        for field in self._path:
            if field.has_presence and not message.HasField(field.name):
                return None
            value = getattr(message, field.name)
            if not field.has_presence and value == field.default_value:
                return None
            message = value
        return message.SerializeToString() if isinstance(message, Message) else message


def _body_reader(rule: Rule) -> Callable[[Any, Message], None] | None:
    if rule.body is None:
        return None
    if not isinstance(rule.body, FieldDescriptor):
        read_all = message_reader(rule.rpc.input_type)
        return lambda json, message: read_all(json, message, MAX_DEPTH)
    name, read = rule.body.name, field_reader(rule.body)

    def read_field(json: Any, message: Message) -> None:
        try:
            read(json, message, MAX_DEPTH)
        except FieldError as error:
            raise error.within(name) from None
        except ValueError as error:
            raise FieldError(name, str(error)) from None

    return read_field


def _mask_deriver(rule: Rule) -> Callable[[Any, dict[str, Any]], None] | None:
    """What fills an empty FieldMask with what the body has, as grpc-gateway does, so that a PATCH changes just that.

    None unless the rule is a PATCH with one message as its body, and its request has one FieldMask. The fields that the
    path binds say which resource it is, and `etag` (AIP-154) which state of it is meant: neither is a change.
    """
    if rule.method != "PATCH" or not isinstance(rule.body, FieldDescriptor) or rule.body.message_type is None:
        return None
    masks = [
        field.name
        for field in rule.rpc.input_type.fields
        if field.message_type is not None and field.message_type.full_name == "google.protobuf.FieldMask"
    ]
    if len(masks) != 1 or rule.body.is_repeated or is_special(rule.body.message_type):
        return None
    body, name = rule.body.message_type, masks[0]
    unchanged = {"etag", *(spelled(path[1:]) for path in rule.bound if path[0] is rule.body)}

    def derive(message: Any, json: dict[str, Any]) -> None:
        mask = getattr(message, name)
        if not mask.paths:
            mask.paths.extend(path for path in given_paths(json, body) if path not in unchanged)

    return derive


def _parameters(query: str) -> Iterator[tuple[str, str]]:
    for pair in query.split("&"):
        if pair:
            name, _, text = pair.partition("=")
            try:
                yield unescape(name.replace("+", " ")), unescape(text.replace("+", " "))
            except InvalidEscape as error:
                raise FieldError(name, str(error)) from None
