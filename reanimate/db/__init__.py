"""The record in Postgres: tables, migrations, connections, and the embedded server for machines without one."""
