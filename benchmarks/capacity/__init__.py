"""What a link, a sample, an update and a call cost: the constants of `pba plan`."""
