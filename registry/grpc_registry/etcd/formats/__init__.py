"""How other frameworks keep their instances in etcd, so that their clients find ours and ours find theirs."""

from __future__ import annotations

from grpc_registry.etcd.formats.contract import Format
from grpc_registry.etcd.formats.gozero import GoZero
from grpc_registry.etcd.formats.kratos import Kratos

__all__ = ["Format", "GoZero", "Kratos", "format_of"]

_NAMED: dict[str, Format] = {"kratos": Kratos(), "go-zero": GoZero()}


def format_of(form: Format | str) -> Format:
    """A format, or the one of that name with its framework's defaults. Raises `ValueError` for another name."""
    if not isinstance(form, str):
        return form
    try:
        return _NAMED[form]
    except KeyError:
        raise ValueError(f"format {form!r}: {', '.join(map(repr, _NAMED))}, or a Format") from None
