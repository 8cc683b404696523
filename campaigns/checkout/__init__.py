"""Orders are placed while everything is killed, frozen and cut off: each ends, and nobody pays for what is not sold.

The whole shop runs as real processes: etcd, NATS JetStream, a database (PostgreSQL, or SQLite files), users, two
instances each of products, orders and payments, workers of every topic, and a mail server. 32 clients place orders with
random items and cards; stock is too small for some; clients repeat each request until it is answered, some send it
several times at once, and some call their order off. Meanwhile processes die by `kill -9`, or stand still (SIGSTOP)
and go on as if nothing had happened, the broker dies, PostgreSQL crashes and its connections are cut. What is asked
for, and what is broken when, follows from the seed. When all was asked for, the faults stop and the shop is given time
to settle; then its tables are read.

Promised: every order ends, by a path of the saga. FULFILLED: charged once, and its stock committed once. FAILED or
CANCELLED: nothing charged in the end, and no stock held. Stock and sales of every product add up. One order for each
request id, one e-mail for each order, no message left over or given up, and CancelOrder told the truth.
"""

from campaigns.checkout.scenario import run

__all__ = ["run"]
