"""Whether who listens here is reached at the address that others are told: known at once, not when nobody got ready."""

from __future__ import annotations

import asyncio
import socket

from shop_services.runtime.settings import SettingError, Settings

_TIMEOUT = 3.0
_ANY_V6 = "::"


async def check_advertised(settings: Settings) -> None:
    """Listen as a service with these settings would, and connect as one that found it in the registry would.

    Raises:
        SettingError: that does not lead here.
    """
    loop = asyncio.get_running_loop()
    try:
        listener = _listen(settings.host)
    except OSError:  # not an address of ours: the services say so, each of its port
        return
    with listener:
        host, _, port = settings.address(listener.getsockname()[1]).rpartition(":")
        host = host.strip("[]")
        try:
            async with asyncio.timeout(_TIMEOUT):
                _, writer = await asyncio.open_connection(host, int(port))
                writer.close()
                (await loop.sock_accept(listener))[0].close()
        except (OSError, TimeoutError) as error:
            why = getattr(error, "strerror", None) or f"no answer within {_TIMEOUT:.0f} s"
            variable = "SHOP_ADVERTISE" if settings.advertise else "SHOP_HOST"
            instead = "" if settings.advertise else "; let SHOP_ADVERTISE name an address of this machine"
            raise SettingError(
                variable, f"who listens on {settings.host} is not reached at {host} ({why}){instead}"
            ) from None


def _listen(host: str) -> socket.socket:
    """A socket on a free port of `host`; as gRPC does it, `::` stands for IPv4 as well."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    dual = host == _ANY_V6 and socket.has_dualstack_ipv6()
    listener = socket.create_server((host, 0), family=family, dualstack_ipv6=dual)
    listener.setblocking(False)
    return listener
