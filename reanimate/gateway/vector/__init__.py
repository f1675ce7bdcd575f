"""The vector plane: Qdrant's REST API in front of a primary, its replicas and the offline standbys."""
