"""A short look at the ratios that matter, and whether they fell."""
