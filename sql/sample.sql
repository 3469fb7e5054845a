-- The sample district.

-- name: lock
-- Makes two transactions that fill the same district wait for each other. The number stands for the sample; a lock
-- on the district's row would make all writers of the district wait instead.
-- Parameters: district_id
-- Columns: none
select pg_advisory_xact_lock(1936552304, :district_id::integer)

-- name: has_people
-- Returns whether a district has people.
-- Parameters: district_id
-- Columns: occupied
select exists (select from person where district_id = :district_id) as occupied

-- name: add_schools
-- Inserts schools in the given order, each with the calendars of a school year and of the one before.
-- Parameters: district_id, names, portals (arrays of one length), school_year
-- Columns: school_id, name
with added as (
  insert into school (district_id, source_id, name, portal_contact_information)
  select :district_id, 'SCH' || lpad(s.n::text, 4, '0'), s.name, s.portal
  from unnest(:names::text[], :portals::boolean[]) with ordinality as s (name, portal, n)
  order by s.n
  returning school_id, name
),
calendars as (
  insert into calendar (district_id, school_id, school_year, start_date, end_date)
  select :district_id, a.school_id, y.year, make_date(y.year - 1, 8, 15), make_date(y.year, 6, 10)
  from added a cross join generate_series(:school_year::integer - 1, :school_year::integer) as y (year)
)
select school_id, name from added

-- name: reserve_ids
-- Reserves ids of a table, in ascending order. A transaction that reserves ids at the same time gets others.
-- Parameters: table_name, id_column, count
-- Columns: id
select nextval(pg_get_serial_sequence(:table_name, :id_column)) as id from generate_series(1, :count::integer)

-- name: log_preferences
-- Logs every preference in {table} of a district as set from nothing at one revision (D5, D28). {subject} is the
-- column `person_id` or `household_id`. {log} is log/append.
-- Parameters: district_id, revision
-- Columns: none
with changed as (
  select {subject} as subject_id, contact_point, method, reasons_on as turned_on, 0::bigint as turned_off,
    reasons_chosen as chosen, 0::bigint as unchosen
  from {table}
  where district_id = :district_id and (reasons_on <> 0 or reasons_chosen <> 0)
),
next_revision as (
  select :revision::bigint as revision
)
{log}
