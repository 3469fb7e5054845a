-- Tells whether a mode and scope select anybody of the district (D32). {population} is the mode's SELECT of person_id.
-- Parameters: district_id, today
-- Columns: anybody
select exists (
  select from ({population}) selected
  join person p on p.district_id = :district_id and p.person_id = selected.person_id) as anybody
