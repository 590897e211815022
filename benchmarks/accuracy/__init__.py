"""How good the served forecasts are, on measured links and on simulated ones whose best forecast is known."""
