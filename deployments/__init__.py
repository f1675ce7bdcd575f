"""Running the flows: what is deployed, who claims runs, and how Prefect is set up for it."""
