-- Fills `population` with the people selected, each once. A statement of its own: one that fills both tables has to keep
-- all rows a third time.
-- Parameters: none
-- Columns: none
insert into population (person_id)
select distinct person_id from selected
