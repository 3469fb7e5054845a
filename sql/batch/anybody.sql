-- Whether a mode and scope select anybody. {population} is the mode's SELECT of person_id.
-- Parameters: district_id, today
-- Columns: anybody
select exists (select from ({population}) selected) as anybody
