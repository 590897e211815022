"""What each command takes and says of itself; the work is done elsewhere in `cli`, loaded when it is needed."""
