"""Service registry for gRPC Python over etcd: leases, watches, snapshots that outlive an outage."""

from grpc_registry.config import ConfigResolution, ConfigSnapshot
from grpc_registry.connecting import connect
from grpc_registry.contract import (
    ALL_SERVICES,
    ConfigSource,
    ConfigStore,
    Directory,
    Listing,
    Registrar,
    Registration,
    Registry,
    Resolver,
)
from grpc_registry.errors import (
    InvalidInstance,
    InvalidTls,
    InvalidUrl,
    RegistryClosed,
    RegistryError,
    RegistryRefused,
    RegistryUnavailable,
    ServerEnded,
    UnknownConfig,
    UnknownInstance,
)
from grpc_registry.etcd.formats import Format, GoZero, Kratos
from grpc_registry.instance import Instance, Resolution, Snapshot, State, Unresolved
from grpc_registry.lifecycle import Lifecycle, Phase, serving
from grpc_registry.tls import TlsFiles, TlsFollower, TlsMaterial

__all__ = [
    "ALL_SERVICES",
    "ConfigResolution",
    "ConfigSnapshot",
    "ConfigSource",
    "ConfigStore",
    "Directory",
    "Format",
    "GoZero",
    "Instance",
    "InvalidInstance",
    "InvalidTls",
    "InvalidUrl",
    "Kratos",
    "Lifecycle",
    "Listing",
    "Phase",
    "Registrar",
    "Registration",
    "Registry",
    "RegistryClosed",
    "RegistryError",
    "RegistryRefused",
    "RegistryUnavailable",
    "Resolution",
    "Resolver",
    "ServerEnded",
    "Snapshot",
    "State",
    "TlsFiles",
    "TlsFollower",
    "TlsMaterial",
    "UnknownConfig",
    "UnknownInstance",
    "Unresolved",
    "connect",
    "serving",
]
