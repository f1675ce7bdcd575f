"""Restores: which backup and why, into a new collection beside the live one, verified, switched, undone."""
