-- The first reference that leads nowhere, and how many there are.
-- Parameters: none
-- Columns: kind, name, file, line, total
select split_part(u.token, case when u.token ~ '^[a-z]+=' then '=' else '#' end, 1) as kind,
  regexp_replace(u.token, '^[a-z]+[=#]', '') as name, u.file, u.line, count(*) over () as total
from import_use u
where not exists (select from import_identity i where i.token = u.token)
order by u.file, u.line, u.token
limit 1
