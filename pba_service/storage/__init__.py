"""The engine's `Store` in Redis and in memory, and a Redis of our own."""
