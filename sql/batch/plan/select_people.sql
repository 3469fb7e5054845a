-- Selects the people of a run (D11). {population} is the mode's SELECT of person_id and student_id (through whom; null
-- where the mode does not say).
-- Parameters: district_id, today
-- Columns: none
with pair as materialized (
  select distinct people.person_id, people.student_id from ({population}) people
),
remembered as (
  insert into selected (person_id, student_id) select person_id, student_id from pair
)
insert into population (person_id)
select distinct person_id from pair
