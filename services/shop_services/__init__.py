"""A shop of gRPC services that find each other through a registry."""
