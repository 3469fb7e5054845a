-- How many enrollments got their school year by a guess.
-- Parameters: none
-- Columns: year_from, total
select year_from, count(*) as total from import_enrollment where year_from in ('next', 'date') group by year_from
