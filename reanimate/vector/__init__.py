"""Qdrant servers: a thin client, shard snapshots, probes. Speaks REST over httpx; errors are mapped here and nowhere else."""
