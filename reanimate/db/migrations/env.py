"""Alembic's entry: runs inside the connection that `migrate()` hands over."""

from alembic import context
from sqlalchemy import create_engine

from reanimate.db.tables import Base

connection = context.config.attributes.get("connection")
if connection is None:
    connection = create_engine(context.config.attributes["url"]).connect()

context.configure(connection=connection, target_metadata=Base.metadata, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
