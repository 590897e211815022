"""The use cases, written against the ports in `ports.py`."""
