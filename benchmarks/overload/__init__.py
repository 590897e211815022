"""More calls than can be answered."""
