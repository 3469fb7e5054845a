-- Gives the plan of a run room to sort and hash, and time, for its transaction alone.
-- Columns: work_mem, statement_timeout, idle_in_transaction_session_timeout
select set_config('work_mem', '64MB', true) as work_mem,
  set_config('statement_timeout', '10min', true) as statement_timeout,
  set_config('idle_in_transaction_session_timeout', '10min', true) as idle_in_transaction_session_timeout
