"""Quotas: how much of tokens, requests and money may be used in a window, who has it leased, and who used it."""
