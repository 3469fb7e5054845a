-- Gives the plan of a run room to hash, and time to await rules that are Python, for its transaction alone. Its
-- temporary tables are even: a small sample of them will do. A sort where a hash would do costs more than it seems to the
-- planner, which knows little of tables so new.
-- Parameters: idle_seconds
-- Columns: work_mem, statistics, enable_sort, idle
select set_config('work_mem', '64MB', true) as work_mem,
  set_config('default_statistics_target', '10', true) as statistics,
  set_config('enable_sort', 'off', true) as enable_sort,
  set_config('idle_in_transaction_session_timeout',
    ceil(:idle_seconds::double precision * 1000)::bigint::text, true) as idle
