"""The same contract without a server: for tests, and for programs that are one process.

A `MemorySpace` is what etcd is elsewhere: registries connected to one space see each other. It can be made to go away,
come back, lose its leases or all of its data, so that a test puts a client through an outage in no time:

    space = grpc_registry.memory.space("shop")          # what memory://shop connects to
    space.put(Instance("product", "10.0.0.1:50051"))    # an instance of some other process
    space.put_config("product", '{"methodConfig": []}') # the service config of its owner
    space.go_away()                                     # snapshots become stale, registrations wait
    space.come_back()

Nothing expires by itself: `expire` drops the instances of crashed owners whose time is over by the injected clock.
"""

from grpc_registry.memory.registration import MemoryRegistration
from grpc_registry.memory.registry import MemoryRegistry
from grpc_registry.memory.spaces import Entry, Lease, MemorySpace, space

__all__ = ["Entry", "Lease", "MemoryRegistration", "MemoryRegistry", "MemorySpace", "space"]
