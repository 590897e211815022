"""What fine-tuning gives a new deployment that has little data."""
