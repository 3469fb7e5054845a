-- Chooses each person's contact points among the numbers and emails given: the first of a kind, and the second email.
-- The order is that of priority, then of the files.
-- Parameters: none
-- Columns: kind, repeated (given again), further (different, but one too many)
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
