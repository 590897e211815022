"""Faults on purpose, under load: nothing acknowledged may be missing, and nothing may leak."""
