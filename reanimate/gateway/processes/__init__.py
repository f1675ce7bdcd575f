"""Several processes on one port: the first keeps the others, and all obey, know and count as one gateway."""
