"""What is advertised leads here, or is refused before anything starts."""

from __future__ import annotations

import pytest

from shop_services.launch import advertised
from shop_services.launch.advertised import check_advertised
from shop_services.runtime.settings import SettingError, Settings

ALL = "0.0.0.0"  # noqa: S104 - a port of it is bound for a moment


@pytest.mark.parametrize(("host", "advertise"), [("127.0.0.1", ""), ("127.0.0.1", "localhost"), (ALL, "127.0.0.1")])
async def test_what_leads_here_is_accepted(host: str, advertise: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name or an address of this machine, to which what is bound answers."""
    monkeypatch.setattr(advertised, "_TIMEOUT", 30.0)  # of a busy machine
    await check_advertised(Settings(host=host, advertise=advertise))


@pytest.mark.parametrize("advertise", ["no-such-host.invalid", "127.0.0.2", "localhost.localdomain.invalid"])
async def test_what_leads_elsewhere_is_refused(advertise: str) -> None:
    """A name that nobody knows, or an address where nobody listens, is refused with the variable and the reason."""
    with pytest.raises(SettingError, match=rf"^SHOP_ADVERTISE: .* is not reached at {advertise} \(.+\)$"):
        await check_advertised(Settings(advertise=advertise))


async def test_silence_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address that never answers is refused when the time is over."""
    monkeypatch.setattr(advertised, "_TIMEOUT", 0.0)
    with pytest.raises(SettingError, match="no answer within 0 s"):
        await check_advertised(Settings(advertise="127.0.0.1"))


async def test_a_machine_whose_name_leads_nowhere_needs_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """If all addresses are bound and this machine's own name cannot be dialled, the message says what to set."""
    monkeypatch.setattr("socket.gethostname", lambda: "no-such-host.invalid")
    with pytest.raises(SettingError, match=r"^SHOP_HOST: .*no-such-host\.invalid.*; let SHOP_ADVERTISE name"):
        await check_advertised(Settings(host=ALL))
