"""Samples into the store: how fast, how small, how exactly."""
