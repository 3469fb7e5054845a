-- Selects the people of a run (D11). {population} is the mode's SELECT of person_id and student_id (through whom; null
-- where the mode does not say). People of no district, or of another, are not selected, whatever the SELECT gives (D38).
-- Rows may be given, and are kept, more than once: to compare them all would cost more than it saves.
-- Parameters: district_id, today
-- Columns: none
insert into selected (person_id, student_id)
select people.person_id, people.student_id
from ({population}) people
join person p on p.district_id = :district_id and p.person_id = people.person_id
