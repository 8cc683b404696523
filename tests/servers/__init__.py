"""Real servers for tests: etcd, PostgreSQL, Valkey and NATS, each started on free ports of the loopback.

They are plain synchronous classes, so that a script can use them as well as a fixture: make one, `start()` it, and
`kill()` it in the end. No server outlives the process that started it, even if that is killed.
"""

from tests.servers.etcd import Etcd, EtcdCluster
from tests.servers.nats import Nats, NatsCluster
from tests.servers.ports import free_port
from tests.servers.postgres import Postgres
from tests.servers.process import NotReady, ServerProcess
from tests.servers.valkey import Valkey

__all__ = ["Etcd", "EtcdCluster", "Nats", "NatsCluster", "NotReady", "Postgres", "ServerProcess", "Valkey", "free_port"]
