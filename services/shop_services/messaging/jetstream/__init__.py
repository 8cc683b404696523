"""The bus on NATS JetStream: topics are streams, handled by durable consumers, given up to a stream of dead letters.

Beside it a compacted log, which is a stream too.
"""

from shop_services.messaging.jetstream.bus import JetStreamBus
from shop_services.messaging.jetstream.compacted import JetStreamLog
from shop_services.messaging.jetstream.streams import Limits

__all__ = ["JetStreamBus", "JetStreamLog", "Limits"]
