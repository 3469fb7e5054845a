-- Keeps the planner to index look-ups for one chunk's transaction: a chunk is small and its tables may be large, and
-- a statement is planned once for all chunks. So each has to be written for nested loops. A server that is frozen in the middle loses the chunk with its lease.
-- Parameters: lease_seconds
-- Columns: enable_hashjoin, enable_mergejoin, idle
select set_config('enable_hashjoin', 'off', true) as enable_hashjoin,
  set_config('enable_mergejoin', 'off', true) as enable_mergejoin,
  set_config('idle_in_transaction_session_timeout',
    ceil(:lease_seconds::double precision * 1000)::bigint::text, true) as idle
