-- Counts the channels found: how many have a value on record (D15), and how many are candidates for the other rules.
-- Parameters: none
-- Columns: contact_point, on_record, candidates
select contact_point, count(address) as on_record, count(*) filter (where denied_by is null) as candidates
from all_channels group by contact_point
