"""The front door: HTTP and JSON for the gRPC services, made from the annotations in their protos at run time."""
