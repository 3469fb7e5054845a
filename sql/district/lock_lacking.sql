-- Locks the districts that lack a bit for one of the reasons, and no others: their writers need not wait.
-- Parameters: codes
-- Columns: district_id
select d.district_id
from district d
where exists (
  select from unnest(:codes::text[]) as wanted (code)
  where not exists (
    select from contact_reason r where r.district_id = d.district_id and r.code = wanted.code))
order by d.district_id
for update
