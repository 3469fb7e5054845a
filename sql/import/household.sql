-- The households of an import: people who live together are one household, which the files do not name themselves.

-- name: choose_contact_points
-- Chooses each person's contact points among the given numbers and addresses: the first of each kind, and a second
-- email. They are ordered by priority, then as in the files.
-- Parameters: none
-- Columns: kind, repeated (given again), further (different, but more than a person can have)
with distinct_value as (
  select distinct on (i.id, a.kind, a.value) i.id as person_id, a.*
  from import_address a
  join import_identity i on i.token = a.person
  order by i.id, a.kind, a.value, a.priority, a.file, a.line, a.position
),
ranked as (
  select *, row_number() over (partition by person_id, kind order by priority, file, line, position) as rank
  from distinct_value
),
chosen as (
  insert into import_contact_point (person_id, kind, value)
  select person_id, case when rank = 2 then 'SECONDARY_EMAIL' else kind end, value
  from ranked
  where rank = 1 or (rank = 2 and kind = 'EMAIL')
)
select kind, (select count(*) from import_address a where a.kind = r.kind) - count(*) as repeated,
  count(*) filter (where rank > case when kind = 'EMAIL' then 2 else 1 end) as further
from ranked r
group by kind
order by kind

-- name: number_residents
-- Numbers the students, and the contacts who live with one: the students first, in the order of their ids.
-- Parameters: none
-- Columns: none
insert into import_resident (number, person_id, household_source_id)
select row_number() over (order by kind = 'contact', key collate "C") - 1, id,
  case when kind = 'student' then regexp_replace(key, '^student-', 'household-') end
from (
  select distinct i.kind, i.key, i.id
  from import_relationship r
  join import_identity i on i.token in (r.student, r.contact)
  where r.lives_with
) resident

-- name: ties
-- Returns who lives with whom, by number.
-- Parameters: none
-- Columns: student, contact
select s.number as student, c.number as contact
from import_relationship r
join import_identity si on si.token = r.student
join import_identity ci on ci.token = r.contact
join import_resident s on s.person_id = si.id
join import_resident c on c.person_id = ci.id
where r.lives_with

-- name: analyze
-- Lets the planner know the sizes of the tables of residents and households.
-- Parameters: none
-- Columns: none
analyze import_resident, import_root, import_household, import_contact_point

-- name: set_roots
-- Gives every resident the number of the first student in the same household.
-- Parameters: none
-- Columns: none
update import_resident r set root = o.root from import_root o where o.number = r.number

-- name: form
-- Forms the households. A household that an earlier import made from one of its students is found again by that
-- student's id, so that it stays the same when a sibling with a smaller id moves in. Its phone is the home phone
-- of a contact who lives there, of a primary contact if there is one.
-- Parameters: district_id
-- Columns: none
insert into import_household (root, source_id, name, phone)
select home.root, coalesce(home.known, home.first), home.name, phone.value
from (
  select r.root, min(r.household_source_id collate "C") as first, min(h.source_id collate "C") as known,
    array_to_string((array_agg(distinct p.last_name))[1:3], ' / ') as name
  from import_resident r
  join person p on p.district_id = :district_id and p.person_id = r.person_id
  left join household h on h.district_id = :district_id and h.source_id = r.household_source_id
  where r.household_source_id is not null
  group by r.root
) home
left join (
  select distinct on (r.root) r.root, c.value
  from import_resident r
  join import_contact_point c on c.person_id = r.person_id and c.kind = 'HOME_PHONE'
  join (
    select i.id, i.key, bool_or(t.primary_contact) as primary_contact
    from import_relationship t
    join import_identity i on i.token = t.contact
    where t.lives_with
    group by i.id, i.key
  ) contact on contact.id = r.person_id
  order by r.root, contact.primary_contact desc, contact.key collate "C"
) phone on phone.root = home.root

-- name: take_home_phones
-- Removes the household's phone from the home phones of those who live there.
-- Parameters: none
-- Columns: moved (one for each household), repeated (the same number, given by another who lives there)
with taken as (
  delete from import_contact_point c
  using import_resident r, import_household h
  where c.kind = 'HOME_PHONE' and c.person_id = r.person_id and h.root = r.root and h.phone = c.value
  returning h.root
)
select count(distinct root) as moved, count(*) - count(distinct root) as repeated from taken

-- name: count_without_contact
-- Counts the students of the files who live with no contact, and therefore have no household.
-- Parameters: none
-- Columns: count
select count(distinct p.source_id)
from import_person p
join import_identity i on i.kind = 'student' and i.key = p.source_id
where p.role = 'student' and not exists (select from import_resident r where r.person_id = i.id)
