"""A program, not a test: what the `etcd3` package sees of a service. It prints a JSON document a line.

    etcd3_observer.py PORT PREFIX

First `{"found": …}`, an instance's value by its key; then `{"put": [key, value, lease]}` and `{"delete": key}` for all
that happens, until its standard input ends. It imports nothing of this repository.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import etcd3  # type: ignore[import-not-found]


def say(**document: Any) -> None:
    print(json.dumps(document), flush=True)  # noqa: T201


def happened(response: Any) -> None:
    for event in response.events:
        if isinstance(event, etcd3.events.PutEvent):
            say(put=[event.key.decode(), json.loads(event.value), event._event.kv.lease])
        else:
            say(delete=event.key.decode())


def main() -> None:
    port, prefix = sys.argv[1:]
    client = etcd3.client(host="127.0.0.1", port=int(port), timeout=10)
    watch = client.add_watch_prefix_callback(prefix, happened)
    say(found={metadata.key.decode(): json.loads(value) for value, metadata in client.get_prefix(prefix)})
    sys.stdin.read()
    client.cancel_watch(watch)
    client.close()


main()
