"""Qdrant servers: a thin client, shard snapshots, probes. REST over httpx; errors are mapped here, nowhere else."""
