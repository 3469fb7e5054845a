-- Lists, of the people whom a mode selects, those of the district: nobody else is selected, whatever the mode's SELECT
-- {population} gives (D38).
-- Parameters: district_id, today
-- Columns: person_id, student_id
select people.person_id, people.student_id
from ({population}) people
join person p on p.district_id = :district_id and p.person_id = people.person_id
