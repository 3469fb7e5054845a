-- Lists no denials, in the shape of denials.sql, where a request has no rule with a SELECT.
-- Parameters: none
-- Columns: rule_no, household, subject_id, contact_point, method, on_reasons, off_reasons
select null::smallint as rule_no, household, subject_id, contact_point, method, on_mask as on_reasons,
  off_mask as off_reasons
from candidate where false
