-- The school year of an enrollment, which many files leave out.

-- name: choose
-- Chooses the school year of each enrollment. In this order: the year that is given with it or by its calendar;
-- the year of the school's session around the entry date; the school's next session to end after it; the year that
-- the district knows around it from an earlier import; and the year of the entry date, if years begin in July.
-- Parameters: district_id
-- Columns: none
with year as materialized (
  select i.id as school_id, s.school_year, min(s.start_date) as start_date, max(s.end_date) as end_date
  from import_session s
  join import_identity i on i.token = s.school
  where s.start_date is not null and s.end_date is not null
  group by i.id, s.school_year
)
update import_enrollment e set (school_year, year_from) = (
  select choice.school_year, choice.year_from
  from (
    select 1 as preference, e.school_year, 'given' as year_from where e.school_year is not null
    union all
    select 2, c.key::integer, 'given' from import_identity c where c.token = e.calendar
    union all
    select 3, y.school_year, 'session'
    from year y
    join import_identity o on o.token = e.school and o.id = y.school_id
    where e.start_date between y.start_date and y.end_date
    union all
    select 4, y.school_year, 'next'
    from year y
    join import_identity o on o.token = e.school and o.id = y.school_id
    where y.end_date >= e.start_date
    union all
    select 5, c.school_year, 'session'
    from calendar c
    join import_identity o on o.token = e.school and o.id = c.school_id
    where c.district_id = :district_id and e.start_date between c.start_date and c.end_date
    union all
    select 6, extract(year from e.start_date + interval '6 months')::integer, 'date'
  ) choice
  order by choice.preference, choice.school_year
  limit 1
)

-- name: guessed
-- Counts the enrollments whose school year is a guess, by kind of guess.
-- Parameters: none
-- Columns: year_from, total
select year_from, count(*) as total from import_enrollment where year_from in ('next', 'date') group by year_from
