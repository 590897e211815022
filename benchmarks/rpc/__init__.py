"""Single calls: requests per second and delay, beside a bare grpc.aio echo."""
