"""Which servers a URL names."""

from __future__ import annotations

import pytest

from shop_services.messaging.jetstream.connection import servers


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("nats://a:4222", (["nats://a:4222"], {})),
        ("nats://a:4222,b:4222", (["nats://a:4222", "nats://b:4222"], {})),
        ("tls://shop:p%40ss:@a:1,b:2", (["tls://a:1", "tls://b:2"], {"user": "shop", "password": "p@ss:"})),
        ("nats://secret@a:1", (["nats://a:1"], {"token": "secret"})),
    ],
)
def test_a_url_may_name_several_servers(url: str, named: tuple[list[str], dict[str, str]]) -> None:
    """Scheme and credentials stand once and hold for each, and nothing of the credentials is left in an address."""
    assert servers(url) == named
