"""Measurements of what is claimed."""
