-- The values on record in a district, by which a person or household can be told, that stand in a text.
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
