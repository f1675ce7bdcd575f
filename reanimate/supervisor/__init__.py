"""Starts the running parts, keeps them running, and leaves none behind."""
