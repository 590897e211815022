"""The contract of PBA."""
