"""Who calls, in tests of services that run in the test's process."""

from __future__ import annotations

import grpc

from shop_services.runtime.identity.authority import Authority
from shop_services.runtime.operator import operator_credentials
from shop_services.runtime.outgoing import OutgoingChannel
from shop_services.runtime.settings import Settings


def as_operator(channel: grpc.aio.Channel, settings: Settings) -> OutgoingChannel:
    """`channel`, for calls as an admin that may take any time."""
    return OutgoingChannel(channel, None, credentials=operator_credentials(settings))


def as_service(name: str, channel: grpc.aio.Channel, service: str, settings: Settings) -> OutgoingChannel:
    """`channel`, for calls as the service `name` to `service`, with the limits to their time that it sets itself."""
    return OutgoingChannel(channel, credentials=Authority.open(settings, name).credentials_for(service))
