"""The catalog is read and changed while its caches die: nothing that was read was older than promised, no write lost.

Three product instances run as real processes, with three instances of the cache service or one Valkey, a NATS
JetStream, and PostgreSQL or SQLite. Clients change products, one client a product, so that the order of its states is
known: their names count up, and now and then they move to another category. Other clients read them, one by one, many
at once and by category, through whatever instance the balancer chooses. Meanwhile product instances and cache instances
(or Valkey) die by `kill -9` and are started again, two of the three product instances always being there, and what
caches stands still. What is asked for, and what is broken when, follows from the seed.

Promised: no read shows a state that was replaced, with an acknowledgement, longer ago than the bound of the mode before
the read began, nor one that nobody has written; that holds for category lists too, for what they miss and for what they
still show. No read fails. When all has settled, the database holds every acknowledged write.
"""

from campaigns.catalog.scenario import run

__all__ = ["run"]
