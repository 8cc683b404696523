"""The contract of a registry, which etcd and memory both keep (one suite in `tests/contract` runs over both)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from grpc_registry.config import ConfigResolution
from grpc_registry.etcd.formats import Format
from grpc_registry.instance import Instance, Resolution, State
from grpc_registry.service_config import POLICIES


class Registration(Protocol):
    """An instance and its lease. It registers again after any loss, with jitter, until it is closed.

    Once it is closed, `wait_registered` and `update` raise `RegistryClosed`.
    """

    @property
    def instance(self) -> Instance:
        """The instance as it is (or will be) registered, edits made from outside (`meshctl weight`) included."""

    @property
    def registered(self) -> bool:
        """Whether the registry is known to hold the instance under a live lease now."""

    async def wait_registered(self) -> None:
        """Return once `registered` is true. Waits for as long as the registry is away; bound it with a timeout."""

    async def update(self, *, weight: int | None = None, state: State | None = None) -> None:
        """Change the instance in place, on the same lease.

        Returns when the registry has it. If the registry cannot be reached within its deadline the change is still
        kept, and is written with the next registration.

        Raises:
            InvalidInstance: the new value breaks the contract; nothing changed.
            RegistryUnavailable: the registry did not answer; the change will be written when it does.
        """

    async def close(self) -> None:
        """Remove the instance from the registry and stop. Never raises because the registry is away; idempotent."""


class Registrar(Protocol):
    """Makes instances known."""

    def register(self, instance: Instance) -> Registration:
        """Begin to register `instance`, now and again after every loss. Needs a running event loop; never blocks.

        Raises:
            InvalidInstance: this registry registered the same service and id already.
            TypeError: `instance` is no `Instance`.
        """


ALL_SERVICES = "*"
"""What stands for the service in a snapshot of all of them."""


class Resolver(Protocol):
    """Makes services known."""

    def watch(self, service: str) -> AsyncGenerator[Resolution, None]:
        """Yield what is known of `service` now, then again after each change, for ever.

        The first item comes at once if the registry answers: a `Snapshot`, with no instances if there are none.
        While nothing is known and the registry does not answer, it is an `Unresolved`. Changes are conflated: a slow
        reader misses intermediate snapshots, never the latest. It ends by `aclose()`, or when the registry is closed.
        Watches of one service by one registry share one watch on the wire.
        """


class ConfigSource(Protocol):
    """Makes known how the owners of services want them called."""

    def watch_config(self, service: str) -> AsyncGenerator[ConfigResolution, None]:
        """Yield the service config of `service` now, then again after each change, for ever.

        All that `Resolver.watch` promises of snapshots holds for these; a service without a config has a snapshot too.
        The text is what the store holds, and may be no valid service config: whoever wrote it need not have asked us.
        """


@dataclass(frozen=True, slots=True)
class Listing:
    """A registered instance as an operator sees it; `lease_ttl` is the lease's granted TTL in seconds (0: no lease)."""

    instance: Instance
    lease_ttl: int


class Directory(Protocol):
    """What an operator needs beyond that: `meshctl` is made of it."""

    def watch_all(self) -> AsyncGenerator[Resolution, None]:
        """As `Resolver.watch`, for the instances of all services at once; the snapshots' service is `ALL_SERVICES`."""

    async def list(self, service: str | None = None) -> list[Listing]:
        """All instances (of `service`), ordered by service and id.

        Raises:
            RegistryUnavailable: the registry did not answer.
            RegistryRefused: it answered that we may not.
        """

    async def edit(
        self, service: str, instance_id: str, *, weight: int | None = None, state: State | None = None
    ) -> Instance:
        """Change a registered instance in place, whoever owns it, keeping its lease and its unknown fields.

        Raises:
            UnknownInstance: it is not registered (or went away meanwhile).
            InvalidInstance: the new value, or what is registered, breaks the contract.
            RegistryUnavailable: the registry did not answer.
            RegistryRefused: it answered that we may not.
        """

    async def remove(self, service: str, instance_id: str) -> None:
        """Remove an instance whose process is known to be dead, ahead of its lease; one that lives puts it back.

        For whoever watches over processes: a supervisor that saw one end knows it before any lease does. Does nothing
        if the instance is not registered. Raises `RegistryUnavailable`, `RegistryRefused`.
        """


class ConfigStore(Protocol):
    """The service configs as an operator handles them: `meshctl config` is made of it.

    All of it raises `RegistryUnavailable` if the registry did not answer, `RegistryRefused` if it says that we may not.
    """

    async def get_config(self, service: str) -> str | None:
        """The service config of `service` as it stands in the store; None if it has none."""

    async def set_config(self, service: str, text: str, *, policies: Collection[str] = POLICIES) -> None:
        """Give `service` the service config `text`, in place of any that it has. Clients follow within a second.

        `policies`: the names of all policies that its clients know, for `loadBalancingConfig`.

        Raises:
            InvalidServiceConfig: `text` is no valid one; nothing was written.
        """

    async def remove_config(self, service: str) -> None:
        """Remove the service config of `service`; clients go back to what they do without.

        Raises:
            UnknownConfig: it has none.
        """


class Registry(Registrar, Resolver, Directory, ConfigSource, ConfigStore, Protocol):
    """All of it, as an async context manager: leaving closes every registration and watch it made.

    Once it is closed, everything but `close` raises `RegistryClosed`.
    """

    def in_format(self, form: Format | str) -> Resolver:
        """Finds services that other frameworks registered: `in_format("kratos")`, `in_format("go-zero")`.

        It shares the connection, and ends with this registry. In memory there is one format, so all find all.
        Raises `ValueError` for a format that there is not.
        """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def close(self) -> None:
        """Close every registration and watch, then the connection. Idempotent."""
