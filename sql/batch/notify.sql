-- Tells whoever watches a run, in any process, that it has moved. They hear it when the transaction commits.
-- Parameters: channel, district_id, batch_run_id
select pg_notify(:channel, :district_id::integer || ' ' || :batch_run_id::bigint)
