"""Proofs: a backup restored to scratch and held against its manifest, with a dated record of it."""
