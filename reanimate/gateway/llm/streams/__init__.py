"""Streamed answers on their way to the caller, and gone on with when they break off."""
