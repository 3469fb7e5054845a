-- How many districts have no bit for some reason of the loaded plug-ins, and for which.
-- Parameters: codes
-- Columns: districts, codes
select count(distinct d.district_id) as districts,
  coalesce(array_agg(distinct wanted.code order by wanted.code), '{}') as codes
from district d
cross join unnest(:codes::text[]) as wanted (code)
where not exists (
  select from contact_reason r where r.district_id = d.district_id and r.code = wanted.code)
