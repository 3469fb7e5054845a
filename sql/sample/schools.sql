-- Adds schools in the order given, each with the calendars of a school year and the one before.
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
