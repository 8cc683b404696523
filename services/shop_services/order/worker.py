"""`python -m shop_services.order.worker TOPIC` handles the messages of a topic."""

import sys
from collections.abc import Sequence
from functools import partial

from shop_services.order.wiring import CONCURRENCY, NAME, wire_worker
from shop_services.runtime.serve import REFUSED, run


def main(arguments: Sequence[str]) -> int:
    """Run a worker of the topic that is the only argument; returns the exit status."""
    topics = ", ".join(CONCURRENCY)
    if len(arguments) != 1 or arguments[0] not in CONCURRENCY:
        given = f"unknown topic {' '.join(arguments)!r}" if arguments else "no topic given"
        sys.stderr.write(f"order.worker: {given}: needs one of {topics}\n")
        return REFUSED
    [topic] = arguments
    return run(f"{topic}-worker", partial(wire_worker, topic), identity=NAME)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
