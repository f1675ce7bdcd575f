"""Protection as schedules and commands run it: the parts of backups, proofs and retention put together, on record."""
