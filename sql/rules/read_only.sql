-- Lets what follows read only, and write nothing but temporary tables. To be set in a savepoint: with its end it is off
-- again, and inside nothing can switch it off.
-- Parameters: none
-- Columns: read_only
select set_config('transaction_read_only', 'on', true) as read_only
