"""The exceptions of this package: one small tree, translated from gRPC's at the etcd boundary."""

from __future__ import annotations


class RegistryError(Exception):
    """Base of everything that `grpc_registry` raises on purpose."""


class InvalidInstance(RegistryError, ValueError):
    """An instance, or the bytes of one, break the contract; the message names the field."""


class InvalidUrl(RegistryError, ValueError):
    """A registry URL cannot be used; the message names the part that is wrong, never the password."""


class InvalidTls(RegistryError, ValueError):
    """Files with certificates or keys cannot be used; the message names the file, and never quotes a key."""


class RegistryUnavailable(RegistryError):
    """No member of the registry answered within the deadline."""


class RegistryRefused(RegistryError):
    """The registry answered and said no: wrong user or password, no permission, no space; the message says which."""


class RegistryClosed(RegistryError):
    """The registry, or the registration, was closed before or while it was used."""


class UnknownInstance(RegistryError, LookupError):
    """The instance asked for is not registered; nothing was changed."""


class UnknownConfig(RegistryError, LookupError):
    """The service asked for has no service config; nothing was changed."""


class ServerEnded(RegistryError):
    """A server that was registered takes no calls any more, and it was not its lifecycle that stopped it."""
