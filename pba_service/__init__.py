"""Predictive Bandwidth Allocation: the service."""
