"""How often the test of two models is wrong, and how long it takes to be right."""
