-- Fills `population` with the people selected, each once, for a run that names several contact points. A statement of its
-- own: one that fills both tables has to keep all rows a third time.
-- {people}: see distinct_people.sql.
-- Parameters: none
-- Columns: none
insert into population (person_id)
{people}
