-- Gives the tokens of people their people.
-- Parameters: district_id
update import_identity i set id = p.person_id
from person p
where p.district_id = :district_id and p.source_id = i.key and i.kind in ('student', 'contact', 'staff')
