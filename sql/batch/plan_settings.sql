-- Gives the plan of a run room to hash, time, and time to await rules that are Python, for its transaction alone. Its
-- temporary tables are even: a small sample of them will do; and too new for good statistics: loops over them, and sorts
-- where a hash would do, are not what they seem to cost.
-- Parameters: idle_seconds
-- Columns: work_mem, statistics, enable_sort, statement_timeout, idle
select set_config('work_mem', '64MB', true) as work_mem,
  set_config('default_statistics_target', '10', true) as statistics,
  set_config('enable_sort', 'off', true) as enable_sort,
  set_config('statement_timeout', '10min', true) as statement_timeout,
  set_config('idle_in_transaction_session_timeout',
    ceil(:idle_seconds::double precision * 1000)::bigint::text, true) as idle
