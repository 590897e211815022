"""How well transport parameters do on real TCP, beside the best that a search finds."""
