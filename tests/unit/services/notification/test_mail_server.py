"""What SHOP_SMTP_URL means."""

from __future__ import annotations

import pytest

from shop_services.notification.post import MailServer
from shop_services.runtime.settings import SettingError


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("smtp://127.0.0.1:1025", MailServer("127.0.0.1", 1025, False, False, None, None)),
        ("smtp://[::1]", MailServer("::1", None, False, False, None, None)),
        ("smtp://m?starttls", MailServer("m", None, False, True, None, None)),
        ("smtp://u:p%40%2F@m:587", MailServer("m", 587, False, True, "u", "p@/")),
        ("smtps://u:p@m/", MailServer("m", None, True, False, "u", "p")),
    ],
)
def test_a_url_says_where_and_how(url: str, meant: MailServer) -> None:
    """A password, `?starttls` or `smtps://` make encryption a must; percent-encoding is undone."""
    assert MailServer.of(url) == meant


def test_tls_twice_is_refused() -> None:
    """The error names the variable, and shows nothing of the URL."""
    with pytest.raises(SettingError) as caught:
        MailServer.of("smtps://u:swordfish@m?starttls")
    assert caught.value.variable == "SHOP_SMTP_URL"
    assert "swordfish" not in str(caught.value)


def test_a_repr_holds_no_password() -> None:
    """A mail server may be printed."""
    assert "swordfish" not in repr(MailServer.of("smtp://shop:swordfish@m"))
