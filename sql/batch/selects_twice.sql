-- Whether a person was selected twice.
-- Columns: twice
select exists (select from selected group by person_id having count(*) > 1) as twice
