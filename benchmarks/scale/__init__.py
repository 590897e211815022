"""Whether it matters how many links there are; and how long a start takes."""
