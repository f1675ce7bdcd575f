"""Quotas: accounts with their leases, grants, alerts, and what people did about them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    moment, json = sa.DateTime(timezone=True), postgresql.JSONB(astext_type=sa.Text())
    op.create_table(
        "quota_accounts",
        sa.Column("quota", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("meter", sa.Text(), nullable=False),
        sa.Column("pot", sa.Text(), nullable=False),
        sa.Column("starts_at", moment, nullable=False),
        sa.Column("ends_at", moment, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("limit_amount", sa.BigInteger(), nullable=False),
        sa.Column("extra", sa.BigInteger(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("settled", sa.BigInteger(), nullable=False),
        sa.Column("refused_at", moment, nullable=True),
        sa.Column("leases", json, nullable=False),
        sa.Column("terms", json, nullable=False),
        sa.Column("changed_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("quota", "tenant", "meter", "pot", "starts_at", name=op.f("pk_quota_accounts")),
    )
    op.create_index("ix_quota_accounts_ends", "quota_accounts", ["ends_at"], unique=False)
    # A row is written again and again: room for it on its page spares the indexes.
    op.execute("ALTER TABLE quota_accounts SET (fillfactor = 50)")
    op.create_table(
        "quota_grants",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("quota", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("meter", sa.Text(), nullable=True),
        sa.Column("amount", sa.BigInteger(), nullable=True),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("starts_at", moment, nullable=True),
        sa.Column("until", moment, nullable=False),
        sa.Column("revoked_at", moment, nullable=True),
        sa.Column("revoked_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quota_grants")),
    )
    op.create_index(
        "ix_quota_grants_open", "quota_grants", ["quota"], unique=False, postgresql_where=sa.text("revoked_at IS NULL")
    )
    op.create_table(
        "quota_alerts",
        sa.Column("quota", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("meter", sa.Text(), nullable=False),
        sa.Column("starts_at", moment, nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
        sa.Column("limit_amount", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", moment, nullable=False),
        sa.Column("raised_at", moment, nullable=False),
        sa.Column("labels", json, nullable=False),
        sa.Column("annotations", json, nullable=False),
        sa.Column("resolved_at", moment, nullable=True),
        sa.PrimaryKeyConstraint(
            "quota", "tenant", "meter", "starts_at", "threshold", "limit_amount", name=op.f("pk_quota_alerts")
        ),
    )
    op.create_table(
        "quota_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("quota", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.Text(), nullable=True),
        sa.Column("data", json, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quota_events")),
    )
    op.create_index("ix_quota_events_quota", "quota_events", ["quota", "at"], unique=False)
    op.execute("""
        CREATE FUNCTION quota_events_are_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'what was done about quotas is append-only: % refused', TG_OP
                USING ERRCODE = 'restrict_violation';
        END $$
    """)
    op.execute("""
        CREATE TRIGGER quota_events_keep_rows BEFORE UPDATE OR DELETE ON quota_events
        FOR EACH ROW EXECUTE FUNCTION quota_events_are_append_only()
    """)


def downgrade() -> None:
    for table in ("quota_events", "quota_alerts", "quota_grants", "quota_accounts"):
        op.drop_table(table)
    op.execute("DROP FUNCTION quota_events_are_append_only()")
