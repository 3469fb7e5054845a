-- Sets up the transaction of a plan: memory for hashes, and time to wait for rules in Python. A small sample is enough
-- for the statistics of its temporary tables, whose rows are alike. Sorts are discouraged, because the planner, which
-- knows little about tables that are so new, takes them where a hash is faster.
-- Parameters: idle_seconds
-- Columns: work_mem, statistics, enable_sort, idle
select set_config('work_mem', '64MB', true) as work_mem,
  set_config('default_statistics_target', '1', true) as statistics,
  set_config('enable_sort', 'off', true) as enable_sort,
  set_config('idle_in_transaction_session_timeout',
    ceil(:idle_seconds::double precision * 1000)::bigint::text, true) as idle
