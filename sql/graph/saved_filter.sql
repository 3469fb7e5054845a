-- SavedFilter: for administrators only. The number of people who match is computed by the read itself.
-- Parameters: district_id, viewer_role
-- Columns: saved_filter_id, id, name, kind, criteria
select f.saved_filter_id, 'filter_' || f.saved_filter_id as id, f.name, f.kind, f.criteria
from saved_filter f
where f.district_id = :district_id and :viewer_role = 'ADMIN'
