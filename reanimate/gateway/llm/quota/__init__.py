"""Quotas in the gateway: every call reserves before it is sent, out of what this gateway holds on lease."""
