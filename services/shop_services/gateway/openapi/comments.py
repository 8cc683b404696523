"""The comments of .proto files. Generated classes do not have them; a descriptor set with source information does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

# The numbers of fields in descriptor.proto that lead from a file to what has comments.
_FILE_MESSAGES, _FILE_ENUMS, _FILE_SERVICES = 4, 5, 6
_MESSAGE_FIELDS, _MESSAGE_MESSAGES, _MESSAGE_ENUMS = 2, 3, 4
_ENUM_VALUES = _SERVICE_METHODS = 2

_Path = tuple[int, ...]


class Comments:
    """The leading comments of a set of files, by the full name of what they stand before."""

    def __init__(self, files: FileDescriptorSet | None = None) -> None:
        self._texts: dict[str, str] = {}
        for file in files.file if files is not None else ():
            names = dict(_names(file))
            for location in file.source_code_info.location:
                name = names.get(tuple(location.path))
                if name and location.leading_comments:
                    self._texts[name] = _cleaned(location.leading_comments)

    def of(self, full_name: str) -> str:
        """The comment, as Markdown; empty if there is none. A value of an enum is `package.Enum.VALUE`."""
        return self._texts.get(full_name, "")


def _names(file: FileDescriptorProto) -> Iterator[tuple[_Path, str]]:
    """Every name in `file`, by the path that source information uses for it."""
    yield from _messages(file.message_type, (_FILE_MESSAGES,), file.package)
    yield from _enums(file.enum_type, (_FILE_ENUMS,), file.package)
    for path, name, service in _numbered(file.service, (_FILE_SERVICES,), file.package):
        yield path, name
        for method_path, method, _ in _numbered(service.method, (*path, _SERVICE_METHODS), name):
            yield method_path, method


def _messages(messages: Sequence[Any], prefix: _Path, scope: str) -> Iterator[tuple[_Path, str]]:
    for path, name, message in _numbered(messages, prefix, scope):
        yield path, name
        for field_path, field, _ in _numbered(message.field, (*path, _MESSAGE_FIELDS), name):
            yield field_path, field
        yield from _messages(message.nested_type, (*path, _MESSAGE_MESSAGES), name)
        yield from _enums(message.enum_type, (*path, _MESSAGE_ENUMS), name)


def _enums(enums: Sequence[Any], prefix: _Path, scope: str) -> Iterator[tuple[_Path, str]]:
    for path, name, enum in _numbered(enums, prefix, scope):
        yield path, name
        for value_path, value, _ in _numbered(enum.value, (*path, _ENUM_VALUES), name):
            yield value_path, value


def _numbered(items: Sequence[Any], prefix: _Path, scope: str) -> Iterator[tuple[_Path, str, Any]]:
    for index, item in enumerate(items):
        yield (*prefix, index), f"{scope}.{item.name}" if scope else item.name, item


def _cleaned(comment: str) -> str:
    return "\n".join(line.removeprefix(" ").rstrip() for line in comment.splitlines()).strip()
