-- How many students of the files live with no contact, and so have no household.
-- Parameters: none
-- Columns: count
select count(distinct p.source_id)
from import_person p
join import_identity i on i.kind = 'student' and i.key = p.source_id
where p.role = 'student' and not exists (select from import_resident r where r.person_id = i.id)
