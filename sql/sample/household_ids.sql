-- Reserves ids for households, in ascending order; whoever draws at the same time gets others.
-- Parameters: count
-- Columns: id
select nextval(pg_get_serial_sequence('household', 'household_id')) as id from generate_series(1, :count::integer)
