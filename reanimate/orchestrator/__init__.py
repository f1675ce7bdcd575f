"""How the library speaks with the orchestrator, over its REST API only: nothing here imports Prefect."""
