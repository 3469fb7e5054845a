-- Waits for another import of the same district to end; the lock ends with the transaction.
-- Parameters: code
select pg_advisory_xact_lock(hashtextextended('import:' || :code::text, 0))
