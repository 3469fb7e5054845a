-- Takes the household phone out of the home phones of those who live there.
-- Parameters: none
-- Columns: moved (one a household), repeated (the same number, given by another who lives there)
with taken as (
  delete from import_contact_point c
  using import_resident r, import_household h
  where c.kind = 'HOME_PHONE' and c.person_id = r.person_id and h.root = r.root and h.phone = c.value
  returning h.root
)
select count(distinct root) as moved, count(*) - count(distinct root) as repeated from taken
