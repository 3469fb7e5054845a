-- Makes two that fill one district wait for each other, until the transaction ends. The number is that of the
-- sample; locking the district's row instead would make every writer of a revision wait for the whole of it.
-- Parameters: district_id
select pg_advisory_xact_lock(1936552304, :district_id::integer)
