-- Adds what the files refer to by its identity and the district knows from before: an import may be of a part (D30).
-- Parameters: district_id
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
