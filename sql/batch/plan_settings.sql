-- Gives the plan of a run room to sort and hash, for its transaction alone.
-- Columns: work_mem
select set_config('work_mem', '64MB', true) as work_mem
