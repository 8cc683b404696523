"""The cache service: bytes under a namespace and a key, for a time, in memory or in a Redis."""
