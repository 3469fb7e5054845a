-- How many of the channels gathered are on record (D15), and how many are candidates for other rules.
-- Columns: contact_point, on_record, candidates
select contact_point, count(address) as on_record, count(*) filter (where barred_by is null) as candidates
from gathered group by contact_point
