"""The process that an agent's traffic goes through: reads fail over by themselves, writes are never answered falsely.

It imports neither the record nor the orchestrator: it must run while both are down.
"""
