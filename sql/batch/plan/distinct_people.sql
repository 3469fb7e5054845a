-- Lists the people selected, each once.
-- Parameters: none
-- Columns: person_id
select distinct person_id from selected
