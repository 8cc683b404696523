"""A Chromium that can reach this machine alone, and remembers whoever tried to reach further."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.sync_api import Page, sync_playwright

from tests.servers.chromium import chromium

_ITS_OWN = ("google.com", "googleapis.com", "gvt1.com")
"""Whom a Chromium asks for itself, whatever it is told: for the time, for updates, for a dictionary."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a page did: the addresses that it asked for, its complaints, and the hosts that were asked for elsewhere.

    Those whom the browser asks for itself are not among the hosts; a page that asked them would be in `requests`.
    """

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


@contextmanager
def browsing() -> Iterator[tuple[Page, Seen]]:
    """An empty page in a browser of its own.

    All that is not for the loopback goes to a proxy that answers nothing.
    """
    seen = Seen()
    with _trap(seen.left) as proxy, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), proxy={"server": proxy, "bypass": "127.0.0.1"})
        try:
            page = browser.new_page(viewport={"width": 1280, "height": 2000})
            page.on("request", lambda request: seen.requests.append(request.url))
            page.on("console", lambda said: seen.complaints.extend([said.text] if said.type == "error" else []))
            page.on("pageerror", lambda error: seen.complaints.append(str(error)))
            yield page, seen
        finally:
            browser.close()


@contextmanager
def _trap(heard: list[str]) -> Iterator[str]:
    """A proxy that writes down what it is asked for, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:  # closed: the end
                    return
                with connection, suppress(OSError):
                    connection.settimeout(5)
                    asked = connection.recv(4000).decode(errors="replace").split(" ")
                    address = asked[1] if len(asked) > 1 else ""  # a connection may be made in case it is needed
                    host = urlsplit(address if "://" in address else f"//{address}").hostname
                    if host and not host.endswith(_ITS_OWN):
                        heard.append(host)

        thread = threading.Thread(target=listen, name="trap")
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
