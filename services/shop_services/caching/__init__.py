"""Caching: bounded backends behind aiocache's interface, and reading through them to a source."""
