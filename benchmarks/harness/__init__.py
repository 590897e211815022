"""What every benchmark shares: taking turns, statistics, the report, the load generator and the processes it meets."""
