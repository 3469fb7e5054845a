-- ContactPoint: the values on record of a person. A portal user sees only their own (D1, D27).
-- Parameters: district_id, viewer_sees_all, viewer_person_id
-- Columns: person_id, kind, value
select c.person_id, c.kind, c.value
from contact_point c
where c.district_id = :district_id
  and (:viewer_sees_all or c.person_id = :viewer_person_id)
