-- Selects the people of a run. {population} is the mode's SELECT of person_id.
-- Parameters: none
insert into selected (person_id)
select people.person_id from ({population}) people
