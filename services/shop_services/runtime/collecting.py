"""When Python looks for garbage that reference counts do not free, in a process that serves.

Python looks each time 700 objects more have come than gone, which suits programs that hold few. A gateway that has
thousands of connections and hundreds of requests in progress spent a quarter of its time on it when too much was asked
of it, to find next to nothing: and a look at all there is was a pause of 14 ms, or more, for everyone.
"""

from __future__ import annotations

import gc

THRESHOLDS = (10_000, 10, 10)
"""Objects more, until the youngest are looked at; and of these looks, until one is at the older ones too. What is
garbage until then is some megabytes."""


def settle() -> None:
    """Look seldom, and never again at what is there now: to be called once, when a process begins.

    What is there then is code and descriptors, seventy thousand objects which stay as long as the process does.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
