"""The served graphs beside the core's matrix multiplication, and whether a window's neighbours matter."""
