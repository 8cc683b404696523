"""The way of an order, on real processes: orders a second and the time to FULFILLED ÷ those of bare JetStream; a burst.

One process of each kind: etcd, nats-server, the database, user, product, order, payment, a worker for each topic with
its default concurrency, and the mail server. All that is acknowledged is on disk. An order is for two of 24 products.

Why it is fair: bare JetStream is the same nats-server, with as many hops in as many processes, the same streams,
consumers, concurrency and sizes of messages, loaded by the same process in the same way; and the two take turns.

- orders a second: clients keep a bounded number of orders under way; counted is what is FULFILLED in a time after the
  line has filled. Bare: what arrives at the third hop, as an order that is FULFILLED has.
- time to FULFILLED: orders arrive at random (Poisson), at a third of that rate in both lines; from the moment at which
  CreateOrder was due to the time in the order's history. Bare: until the third hop has its message.
- the burst: a machine that does all of it cannot make orders ten times as fast as it processes them. So processing is
  held back, by a payment provider that takes its time over each call, until the orders offered, half as many again as
  are sustainable at full speed, are ten times what is sustainable; that is measured. They arrive at random, whether or
  not earlier calls have ended. CreateOrder's time counts from the moment at which it was due, and is compared with that
  of the calls before, at a third of the full speed. After the last order the provider hurries again, and all that was
  kept is processed. The memory of every process is looked at throughout.

How many orders are under way, and when they were FULFILLED, is read from the database: watching each would be work
for the shop. The reading, and the clients, take their part of the machine in both lines.
"""

from benchmarks.orders.command import add_options, run

__all__ = ["add_options", "run"]
