"""Dumps: backups of Postgres databases, restored beside the live one and verified before they take its name."""
