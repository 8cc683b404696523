"""Service registry for gRPC Python over etcd: leases, watches, snapshots that outlive an outage."""

from grpc_registry.connecting import connect
from grpc_registry.contract import ALL_SERVICES, Directory, Listing, Registrar, Registration, Registry, Resolver
from grpc_registry.errors import (
    InvalidInstance,
    InvalidUrl,
    RegistryClosed,
    RegistryError,
    RegistryRefused,
    RegistryUnavailable,
    UnknownInstance,
)
from grpc_registry.instance import Instance, Resolution, Snapshot, State, Unresolved
from grpc_registry.lifecycle import Lifecycle, Phase, serving

__all__ = [
    "ALL_SERVICES",
    "Directory",
    "Instance",
    "InvalidInstance",
    "InvalidUrl",
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
    "Snapshot",
    "State",
    "UnknownInstance",
    "Unresolved",
    "connect",
    "serving",
]
