-- Logs every preference of a district's people as set from nothing at one revision (D28).
-- Parameters: district_id, revision
insert into change (district_id, revision, kind, person_id, contact_point, method, turned_on, chosen)
select district_id, :revision, 'PREFERENCES', person_id, contact_point, method, reasons_on, reasons_chosen
from preference
where district_id = :district_id and (reasons_on <> 0 or reasons_chosen <> 0)
order by person_id, contact_point, method
