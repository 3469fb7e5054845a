-- Keeps the planner from loops over rows that are too new for its statistics, and gives room and time, for one
-- transaction.
-- Columns: enable_nestloop, work_mem, statement_timeout
select set_config('enable_nestloop', 'off', true) as enable_nestloop, set_config('work_mem', '64MB', true) as work_mem,
  set_config('statement_timeout', '10min', true) as statement_timeout
