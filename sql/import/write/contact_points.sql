-- Writes the contact points that are new or different (D1). A contact point that the files lack stays.
-- Parameters: district_id
-- Columns: kind, added, changed, unchanged
with wanted as (
  select w.person_id, w.kind::contact_point_kind as kind, w.value,
    case when c.value is null then 'added' when c.value <> w.value then 'changed' else 'unchanged' end as outcome
  from import_contact_point w
  left join contact_point c
    on c.district_id = :district_id and c.person_id = w.person_id and c.kind = w.kind::contact_point_kind
),
written as (
  insert into contact_point (district_id, person_id, kind, value)
  select :district_id, person_id, kind, value from wanted where outcome <> 'unchanged' order by person_id, kind
  on conflict (district_id, person_id, kind) do update set value = excluded.value
    where contact_point.value is distinct from excluded.value
  returning person_id
),
logged as (
  insert into import_change (kind, subject, subject_id) select 'CONTACT_POINTS', 'PERSON', person_id from written
)
select lower(replace(kind::text, '_', ' ')) || 's' as kind, count(*) filter (where outcome = 'added') as added,
  count(*) filter (where outcome = 'changed') as changed, count(*) filter (where outcome = 'unchanged') as unchanged
from wanted
group by wanted.kind
order by wanted.kind
