"""A server that speaks Qdrant's REST API over the embedded engine, one process per shard copy."""
