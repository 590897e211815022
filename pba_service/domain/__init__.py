"""What PBA is about: pure functions over numpy arrays, with no I/O and no clock of their own."""
