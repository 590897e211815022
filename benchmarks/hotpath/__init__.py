"""Where the time of a push goes, in processor time, inside one process."""
