-- Selects the people of a run, each once. {population} is the mode's SELECT of person_id.
-- Parameters: none
insert into selected (person_id, student_id)
select distinct people.person_id, people.student_id from ({population}) people
