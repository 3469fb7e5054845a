-- Logs every preference in {table} of a district as set from nothing at one revision (D5, D28). {subject} is the
-- column `person_id` or `household_id`.
-- Parameters: district_id, revision
-- Columns: none
insert into change (district_id, revision, kind, person_id, contact_point, method, turned_on, chosen)
select district_id, :revision, 'PREFERENCES', person_id, contact_point, method, reasons_on, reasons_chosen
from preference
where district_id = :district_id and (reasons_on <> 0 or reasons_chosen <> 0)
order by person_id, contact_point, method;

-- Logs every preference in {table} of a district as set from nothing at one revision (D5, D28). {subject} is the
-- column `person_id` or `household_id`.
-- Parameters: district_id, revision
-- Columns: none
insert into change (district_id, revision, kind, household_id, contact_point, method, turned_on, chosen)
select district_id, :revision, 'PREFERENCES', household_id, contact_point, method, reasons_on, reasons_chosen
from household_preference
where district_id = :district_id and (reasons_on <> 0 or reasons_chosen <> 0)
order by household_id, contact_point, method;

