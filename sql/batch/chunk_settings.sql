-- Keeps the planner to index look-ups for one chunk's transaction: a chunk is small and its tables may be large, and
-- the statement is planned once for all chunks.
-- Columns: enable_hashjoin, enable_mergejoin
select set_config('enable_hashjoin', 'off', true) as enable_hashjoin,
  set_config('enable_mergejoin', 'off', true) as enable_mergejoin
