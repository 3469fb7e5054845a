-- The reasons of the loaded plug-ins that some district has no bit for.
-- Parameters: codes
-- Columns: code
select wanted.code
from unnest(:codes::text[]) as wanted (code)
where exists (
  select from district d
  where not exists (
    select from contact_reason r where r.district_id = d.district_id and r.code = wanted.code))
