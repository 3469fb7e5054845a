insert into change (district_id, revision, kind, person_id, contact_point, method, turned_on, chosen)
select district_id, :revision, 'PREFERENCES', person_id, contact_point, method, reasons_on, reasons_chosen
from preference
where district_id = :district_id and (reasons_on <> 0 or reasons_chosen <> 0)
order by person_id, contact_point, method;

insert into change (district_id, revision, kind, household_id, contact_point, method, turned_on, chosen)
select district_id, :revision, 'PREFERENCES', household_id, contact_point, method, reasons_on, reasons_chosen
from household_preference
where district_id = :district_id and (reasons_on <> 0 or reasons_chosen <> 0)
order by household_id, contact_point, method;

