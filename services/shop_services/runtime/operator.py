"""Who runs the shop calls it as an admin whose account is none: the demo, command lines, campaigns and benchmarks.

Nobody logs in for that. Whoever can read the private key of `identity` signs a token, and so is the operator.
"""

from __future__ import annotations

import time

from grpc_registry import Resolver
from shop_services.runtime.identity.authority import Credentials, renewed
from shop_services.runtime.identity.caller import Person, Role
from shop_services.runtime.identity.issuing import Issuer
from shop_services.runtime.outgoing import OutgoingChannel, balanced_channel
from shop_services.runtime.settings import Settings
from shop_services.runtime.tls import OPERATOR as NAME

OPERATOR = Person(NAME, Role.ADMIN)
"""Whom services see."""


def operator_channel(service: str, registry: Resolver, settings: Settings) -> OutgoingChannel:
    """A channel to all instances of `service` for calls as the operator; it sets no limit to their time.

    Raises:
        SettingError: the keys that the settings name cannot be used.
    """
    channel = balanced_channel(service, registry, settings, NAME)
    return OutgoingChannel(channel, None, credentials=operator_credentials(settings))


def operator_credentials(settings: Settings) -> Credentials:
    """The metadata of calls as the operator, asked for at each call. Raises `SettingError`."""
    issuer = Issuer.open(settings)

    def make() -> tuple[str, float]:
        issued = issuer.access(OPERATOR.id, OPERATOR.role)
        return issued.token, issued.expires

    return renewed(make, time.time)


def operator_token(settings: Settings) -> str:
    """An access token of the operator, good for SHOP_ACCESS_TTL. Raises `SettingError`."""
    return Issuer.open(settings).access(OPERATOR.id, OPERATOR.role).token
