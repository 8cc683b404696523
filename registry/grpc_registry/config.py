"""What one can know of a service's configuration in the registry: the text as it stands there, good or bad.

The registry hands the text on and does not judge it: who acts on it parses it (`grpc_registry.service_config.parse`),
and keeps the last good one when it is wrong. Only `set_config` refuses a wrong one, before it is written.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from grpc_registry.instance import Unresolved
from grpc_registry.service_config import InvalidServiceConfig, parse


@dataclass(frozen=True, slots=True)
class ConfigSnapshot:
    """The service config of a service, a gRPC service config in JSON, at a revision of the registry.

    `text`: as it was given; None if the service has none. What is no text (not UTF-8) is there as one that is no JSON.
    `stale`: the registry cannot be reached; this is the last that was known, and it stays so for as long as that lasts.
    `relisted`: read anew after a break (an outage, a compaction, a wiped store): a None may then mean that the store
    lost its data, and not that somebody removed the config.
    """

    service: str
    revision: int
    text: str | None
    stale: bool = False
    relisted: bool = False


ConfigResolution = ConfigSnapshot | Unresolved


def check_config(text: str, policies: Collection[str]) -> bytes:
    """`text` as it is written, if it is a valid service config for clients that know `policies`.

    Raises:
        InvalidServiceConfig: it is not; the message begins with the JSON path of what is wrong.
    """
    parse(text, policies)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidServiceConfig("", f"cannot be written as UTF-8: {error.reason}") from None
