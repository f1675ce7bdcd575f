"""The steps of the flows as Prefect tasks: retries, timeouts, names for people. Each calls one service."""
