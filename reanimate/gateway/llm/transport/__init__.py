"""The way to a provider: HTTP/1.1 on raw connections, with every way to break given a name."""
