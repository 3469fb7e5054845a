-- Releases the advisory locks of the session, which outlive a transaction.
-- Parameters: none
-- Columns: none
select pg_catalog.pg_advisory_unlock_all()
