-- Selects the people of a run (D11). {population} is the mode's SELECT of person_id and student_id (through whom; null
-- where the mode does not say). Rows may be given, and are kept, more than once: to compare them all would cost more than
-- it saves.
-- Parameters: district_id, today
-- Columns: none
insert into selected (person_id, student_id)
select people.person_id, people.student_id
from ({population}) people
