-- Districts: their rows, their reasons and their revisions.

-- name: create
-- Creates a district, unless its code is taken.
-- Parameters: code, name, time_zone
-- Columns: none
insert into district (code, name, time_zone) values (:code, :name, :time_zone)
on conflict (code) do nothing

-- name: find
-- Returns the district that has a code.
-- Parameters: code
-- Columns: district_id, code, time_zone
select district_id, code, time_zone from district where code = :code

-- name: take_revision
-- Takes the district's next revision and inserts its change set (D28). This locks the district's row, which is the
-- last lock of every transaction.
-- Parameters: district_id, source, actor
-- Columns: revision
with taken as (
  update district set revision = revision + 1 where district_id = :district_id returning district_id, revision
)
insert into change_set (district_id, revision, source, actor)
select district_id, revision, :source, :actor from taken
returning revision

-- name: reason_bits
-- Returns the bit of each reason of a district.
-- Parameters: district_id
-- Columns: code, bit
select code, bit from contact_reason where district_id = :district_id order by bit

-- name: missing_reasons
-- Returns how many districts lack a bit for at least one of the given reasons, and which reasons these are.
-- Parameters: codes
-- Columns: districts, codes
select count(distinct d.district_id) as districts,
  coalesce(array_agg(distinct wanted.code order by wanted.code), '{}') as codes
from district d
cross join unnest(:codes::text[]) as wanted (code)
where not exists (
  select from contact_reason r where r.district_id = d.district_id and r.code = wanted.code)

-- name: differing
-- Returns the districts that lack at least one of the given reasons, or have it in other words.
-- Parameters: codes, labels, descriptions, plugins (arrays of one length)
-- Columns: district_id
select d.district_id
from district d
where exists (
  select from unnest(:codes::text[], :labels::text[], :descriptions::text[], :plugins::text[])
    as wanted (code, label, description, plugin)
  where not exists (
    select from contact_reason r
    where r.district_id = d.district_id
      and (r.code, r.label, r.description, r.plugin) = (wanted.code, wanted.label, wanted.description, wanted.plugin)))

-- name: lock
-- Locks districts, in the order of their ids.
-- Parameters: districts
-- Columns: none
select from district where district_id = any (:districts::integer[]) order by district_id for update

-- name: register_reasons
-- Gives each of the districts its next free bit for each reason that it lacks, updates the labels and descriptions of
-- the others, and switches a new TEACHER off on every phone (D3, D15). The districts are locked before, so that two
-- servers that start at the same time wait for each other; writers of other districts need not wait. What is added or
-- worded differently is one change set of the district (D28), except the reasons that a new district begins with.
-- Parameters: districts, codes, labels, descriptions, plugins (the last four: arrays of one length), source, actor
-- Columns: count (of the reasons added)
with wanted as (
  select * from unnest(:codes::text[], :labels::text[], :descriptions::text[], :plugins::text[])
    with ordinality as w (code, label, description, plugin, position)
),
lacking as (
  select d.district_id, w.*,
    row_number() over (partition by d.district_id order by w.position) as n,
    (select coalesce(max(bit), -1) from contact_reason r where r.district_id = d.district_id) as last_bit
  from district d cross join wanted w
  where d.district_id = any (:districts::integer[]) and not exists (
    select from contact_reason r where r.district_id = d.district_id and r.code = w.code)
),
added as (
  insert into contact_reason (district_id, code, bit, label, description, plugin)
  select district_id, code, last_bit + n, label, description, plugin from lacking
  returning district_id, code, bit
),
reworded as (
  update contact_reason r set label = w.label, description = w.description, plugin = w.plugin
  from wanted w
  where r.district_id = any (:districts::integer[]) and r.code = w.code
    and (r.label, r.description, r.plugin) is distinct from (w.label, w.description, w.plugin)
  returning r.district_id, r.bit
),
changed as (
  select a.district_id, a.bit::bigint from added a
  where exists (select from contact_reason r where r.district_id = a.district_id) -- before this statement
  union all
  select district_id, bit from reworded
),
next_revision as (
  update district d set revision = d.revision + 1
  where d.district_id in (select c.district_id from changed c)
  returning d.district_id, d.revision
),
change_set_row as (
  insert into change_set (district_id, revision, source, actor)
  select district_id, revision, :source, :actor from next_revision
),
logged as (
  insert into change (district_id, revision, subject, bucket, kind, subject_ids, lowest_id, highest_id)
  select n.district_id, n.revision, 'REASON', bucket_of(min(c.bit)), 'REASON', array_agg(c.bit order by c.bit),
    min(c.bit), max(c.bit)
  from next_revision n join changed c using (district_id)
  group by n.district_id, n.revision
),
switched_off as (
  insert into disabled_cell (district_id, contact_point, reason)
  select a.district_id, phone.kind, a.code
  from added a
  cross join unnest('{HOUSEHOLD_PHONE,HOME_PHONE,WORK_PHONE,CELL_PHONE}'::contact_point_kind[]) as phone (kind)
  where a.code = 'TEACHER'
)
select count(*) from added

-- name: values_in
-- Returns which of a district's values that could identify a person or household occur in a text.
-- Parameters: district_id, text
-- Columns: value
select distinct v.value
from (
  select unnest(array[first_name, last_name, source_id]) as value from person where district_id = :district_id
  union all
  select unnest(array[name, source_id, phone]) from household where district_id = :district_id
  union all
  select value from contact_point where district_id = :district_id
  union all
  select address from opt_out where district_id = :district_id
) v
where v.value <> '' and position(lower(v.value) in lower(:text)) > 0

-- name: analyze
-- Lets the planner know the sizes of the tables that hold what is on record, of all districts. Without it, it takes a
-- district that was just filled for empty until autovacuum has come by.
-- Parameters: none
-- Columns: none
analyze school, calendar, person, contact_point, household, household_member, enrollment, district_assignment,
  relationship, contact_reason, disabled_cell, preference, household_preference, opt_out, change_set, change
