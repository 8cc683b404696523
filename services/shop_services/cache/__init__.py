"""The cache service: bytes under a namespace and a key, in memory, for a time."""
