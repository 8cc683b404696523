"""Service registry for gRPC Python over etcd: leases, watches, snapshots that outlive an outage."""

from grpc_registry.contract import Directory, Listing, Registrar, Registration, Registry, Resolver
from grpc_registry.errors import (
    InvalidInstance,
    InvalidUrl,
    RegistryError,
    RegistryUnavailable,
    UnknownInstance,
)
from grpc_registry.instance import Instance, Resolution, Snapshot, State, Unresolved

__all__ = [
    "Directory",
    "Instance",
    "InvalidInstance",
    "InvalidUrl",
    "Listing",
    "Registrar",
    "Registration",
    "Registry",
    "RegistryError",
    "RegistryUnavailable",
    "Resolution",
    "Resolver",
    "Snapshot",
    "State",
    "Unresolved",
    "UnknownInstance",
]
