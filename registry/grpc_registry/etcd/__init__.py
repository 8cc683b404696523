"""Everything that knows etcd. Nothing outside `grpc_registry` imports it; inside, only `connect` does."""
