"""The order service: what users buy, at the prices of that moment, and what became of it."""
