-- What the tokens of an import stand for, and whether its records can be believed. The statements run in this
-- order, except that `schools`, `people` and `households` run when their rows have been written.

-- name: collect
-- Fills import_identity with what each token stands for. A token that stands for two things is found by
-- `first_conflict`.
-- Parameters: none
-- Columns: none
insert into import_identity (token, kind, key)
select distinct on (token) token, kind, key from import_id order by token, file, line

-- name: analyze
-- Lets the planner know the size of the table that all others are joined to.
-- Parameters: none
-- Columns: none
analyze import_identity

-- name: add_known
-- Adds what the files refer to by its identity and the district has from an earlier import: an import may cover a
-- part of the district only (D30).
-- Parameters: district_id
-- Columns: none
with missing as (
  select distinct token, split_part(token, '=', 1) as kind, substr(token, strpos(token, '=') + 1) as unique_id
  from import_use
  where token ~ '^[a-z]+=' and not exists (select from import_identity i where i.token = import_use.token)
)
insert into import_identity (token, kind, key)
select m.token, m.kind, p.source_id
from missing m
join person p on p.district_id = :district_id and p.source_id = m.kind || '-' || m.unique_id
where m.kind in ('student', 'contact', 'staff')
union all
select m.token, m.kind, s.source_id
from missing m
join school s on s.district_id = :district_id and s.source_id = m.unique_id
where m.kind in ('school', 'organization')

-- name: first_dangling
-- Returns the first reference to something that neither the files nor the district have, and the number of such
-- references.
-- Parameters: none
-- Columns: kind, name, file, line, total
select split_part(u.token, case when u.token ~ '^[a-z]+=' then '=' else '#' end, 1) as kind,
  regexp_replace(u.token, '^[a-z]+[=#]', '') as name, u.file, u.line, count(*) over () as total
from import_use u
where not exists (select from import_identity i where i.token = u.token)
order by u.file, u.line, u.token
limit 1

-- name: first_conflict
-- Returns the first record that is given a second time with different data, and where it was given before.
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

-- name: schools
-- Gives the tokens of schools the ids of the schools. Tokens of other organizations, such as the district's
-- office, stay without an id.
-- Parameters: district_id
-- Columns: none
update import_identity i set id = s.school_id
from school s
where s.district_id = :district_id and s.source_id = i.key and i.kind in ('school', 'organization')

-- name: people
-- Gives the tokens of people the ids of the people.
-- Parameters: district_id
-- Columns: none
update import_identity i set id = p.person_id
from person p
where p.district_id = :district_id and p.source_id = i.key and i.kind in ('student', 'contact', 'staff')

-- name: households
-- Gives the staged households the ids of the households.
-- Parameters: district_id
-- Columns: none
update import_household w set household_id = h.household_id
from household h
where h.district_id = :district_id and h.source_id = w.source_id
