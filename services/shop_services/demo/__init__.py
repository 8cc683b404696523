"""The shopper's journey: a story that the shop must be able to live through, played on the real thing."""
