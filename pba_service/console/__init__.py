"""A small page to look at: links, one link's past and forecast, models. Read-only, on the service's HTTP port."""
