"""The commands that run the shop's processes, and what they need told beside their settings."""

from __future__ import annotations

import sys
from collections.abc import Mapping

_WORKER = "-worker"
SERVICES = ("user", "product", "order", "payment", "cache", "gateway")
OWNERS = ("identity", "cache", "notification", "order", "product")
"""Who signs: for people, who logs them in; for itself, each service that calls another."""


def service_command(service: str) -> tuple[str, ...]:
    """The command that runs one instance of a service."""
    return _python(f"shop_services.{service}")


def worker_command(topic: str) -> tuple[str, ...]:
    """The command that runs a worker of a topic."""
    if topic == "notifications":
        return _python("shop_services.notification")
    return _python("shop_services.order.worker", topic)  # the order database is the saga's


def worker_name(topic: str) -> str:
    """What a worker of a topic is called in the registry."""
    return f"{topic}{_WORKER}"


def identity_of(service: str) -> str:
    """Whose keys and certificate an instance of `service`, as the registry calls it, has."""
    if service == worker_name("notifications"):
        return "notification"
    return "order" if service.endswith(_WORKER) else service


def worker_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of a worker. Nobody calls it, so it need not wait for clients to notice that it drains."""
    return {**environment, "SHOP_PROPAGATION": "0"}


def mail_command() -> tuple[str, ...]:
    """The command that runs the mail server for development, which delivers to files."""
    return _python("shop_services.notification.sink")


def _python(module: str, *arguments: str) -> tuple[str, ...]:
    """-P: no file of the current directory may pass for a module."""
    return (sys.executable, "-P", "-m", module, *arguments)
