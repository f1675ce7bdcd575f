"""Postgres backups: a dump and its facts of one snapshot, restored beside the live database, verified, then renamed."""
