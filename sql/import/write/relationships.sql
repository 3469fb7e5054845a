-- Writes the relationships that are new or different. Files have no dates and no no-contact mark of a
-- relationship, so these stay as they are. If two people have several relationships, the open one is meant, or
-- else the newest.
-- Parameters: district_id
-- Columns: kind, added, changed, unchanged
with given as (
  select distinct s.id as student_id, c.id as contact_id, r.kind, r.guardian, r.messenger
  from import_relationship r
  join import_identity s on s.token = r.student
  join import_identity c on c.token = r.contact
),
wanted as (
  select g.*, r.relationship_id,
    case when r.relationship_id is null then 'added'
      when (r.kind, r.guardian, r.messenger) is distinct from (g.kind, g.guardian, g.messenger) then 'changed'
      else 'unchanged' end as outcome
  from given g
  left join lateral (
    select * from relationship r
    where r.district_id = :district_id and r.student_id = g.student_id and r.contact_id = g.contact_id
    order by r.end_date desc nulls first, r.relationship_id desc
    limit 1
  ) r on true
),
added as (
  insert into relationship (district_id, student_id, contact_id, kind, guardian, messenger)
  select :district_id, student_id, contact_id, kind, guardian, messenger
  from wanted where outcome = 'added' order by student_id, contact_id
),
updated as (
  update relationship r set kind = w.kind, guardian = w.guardian, messenger = w.messenger
  from wanted w
  where w.outcome = 'changed' and r.district_id = :district_id and r.relationship_id = w.relationship_id
),
logged as (
  insert into import_change (kind, subject, subject_id)
  select 'RELATIONSHIP', 'PERSON', person_id
  from wanted cross join lateral (values (student_id), (contact_id)) tied (person_id)
  where outcome <> 'unchanged'
)
select 'relationships' as kind, count(*) filter (where outcome = 'added') as added,
  count(*) filter (where outcome = 'changed') as changed, count(*) filter (where outcome = 'unchanged') as unchanged
from wanted
