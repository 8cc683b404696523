"""How other frameworks keep their instances in etcd, so that their clients find ours and ours find theirs."""

from __future__ import annotations

from grpc_registry.etcd.formats.contract import Format
from grpc_registry.etcd.formats.gozero import GoZero
from grpc_registry.etcd.formats.kratos import Kratos

__all__ = ["Format", "GoZero", "Kratos", "format_of"]

_NAMED: dict[str, Format] = {"kratos": Kratos(), "go-zero": GoZero()}


def format_of(form: Format | str) -> Format:
    """A format, or the one of that name with its framework's defaults.

    Raises `ValueError` for another name, `TypeError` for neither.
    """
    if isinstance(form, str) and form in _NAMED:
        return _NAMED[form]
    if isinstance(form, Format):
        return form
    wrong = ValueError if isinstance(form, str) else TypeError
    raise wrong(f"format {form!r}: {', '.join(map(repr, _NAMED))}, or a Format")
