"""Measured claims: each module is a benchmark, run by `scripts/bench NAME`, of us and of a peer in one run."""
