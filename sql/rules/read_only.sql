-- Makes the transaction read-only, but for temporary tables. Run it inside a savepoint: nothing can switch it off before
-- the savepoint ends, and then it is off again.
-- Parameters: none
-- Columns: read_only
select set_config('transaction_read_only', 'on', true) as read_only
