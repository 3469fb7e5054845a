-- Gives the plan of a run room to sort and hash, time, and time to await rules that are Python, for its transaction
-- alone. Its temporary tables are even: a small sample of them will do.
-- Parameters: idle_seconds
-- Columns: work_mem, statistics, statement_timeout, idle
select set_config('work_mem', '64MB', true) as work_mem,
  set_config('default_statistics_target', '10', true) as statistics,
  set_config('statement_timeout', '10min', true) as statement_timeout,
  set_config('idle_in_transaction_session_timeout', :idle_seconds::integer || 's', true) as idle
