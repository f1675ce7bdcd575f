"""Backups of vector collections: take, keep, plan a restore, restore into a new name, verify, switch."""
