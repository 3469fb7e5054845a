-- The first record that is given twice with different data, and where it stood before.
-- Parameters: none
-- Columns: what, file, line, first_file, first_line
with given as (
  select 'The id ' || regexp_replace(token, '^[a-z]+#', '') || ' of a ' || kind as what, key as content, file, line
  from import_id where token ~ '^[a-z]+#'
  union all
  select 'The organization ' || key, row(name, school)::text, file, line from import_organization
  union all
  select 'The ' || replace(source_id, '-', ' '), content, file, line from import_person
  union all
  select 'The relationship of ' || s.key || ' and ' || c.key,
    row(r.kind, r.guardian, r.messenger, r.primary_contact, r.lives_with)::text, r.file, r.line
  from import_relationship r
  join import_identity s on s.token = r.student
  join import_identity c on c.token = r.contact
  union all
  select 'The enrollment of ' || s.key || ' in school ' || o.key || coalesce(' from ' || e.start_date, ''),
    row(e.calendar, e.school_year, e.grade, e.end_date)::text, e.file, e.line
  from import_enrollment e
  join import_identity s on s.token = e.student
  join import_identity o on o.token = e.school
  union all
  select 'The assignment of ' || s.key || ' to ' || o.key || ' as ' || coalesce(a.title, 'staff')
      || coalesce(' from ' || a.start_date, ''),
    coalesce(a.end_date::text, ''), a.file, a.line
  from import_assignment a
  join import_identity s on s.token = a.staff
  join import_identity o on o.token = a.organization
),
compared as (
  select what, file, line, content, first_value(content) over earlier as first_content,
    first_value(file) over earlier as first_file, first_value(line) over earlier as first_line
  from given
  window earlier as (partition by what order by file, line)
)
select what, file, line, first_file, first_line
from compared
where content <> first_content
order by file, line
limit 1
