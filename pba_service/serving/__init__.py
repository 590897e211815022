"""The gRPC side of the service: the only code that knows gRPC and the wire types."""
