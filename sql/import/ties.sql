-- Who lives with whom, by number.
-- Parameters: none
-- Columns: student, contact
select s.number as student, c.number as contact
from import_relationship r
join import_identity si on si.token = r.student
join import_identity ci on ci.token = r.contact
join import_resident s on s.person_id = si.id
join import_resident c on c.person_id = ci.id
where r.lives_with
