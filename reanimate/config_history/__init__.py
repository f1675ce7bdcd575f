"""Versions of files and of server settings: who changed what and when, what is different, and the way back."""
