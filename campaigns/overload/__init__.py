"""Five times more is asked of the shop over HTTP than it can do: what it can do, it still does, and in time.

A gateway and a product service run as real processes, and a crowd of clients in another asks for products, at a rate
that does not depend on the answers. First the rate grows until the shop no longer keeps up: the highest at which it
did, and does again for four times as long, is the sustainable rate. Then the crowd asks five times as often, for as
long as was told, and half as often after that. What the shop can do, its peak, is measured right before and right
after, at the rate at which it answered most: crowd and shop share the machine, with each other and with whatever else
runs there.

Promised: under five times the sustainable rate, the gateway still answers 80% of its peak; what it answers has taken a
second at most at the 99th percentile, and it keeps no more memory for the rest; five seconds after the rush has gone,
everything is answered, and at once.
"""

from campaigns.overload.scenario import run

__all__ = ["run"]
