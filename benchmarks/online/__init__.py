"""What online learning costs beside inference."""
