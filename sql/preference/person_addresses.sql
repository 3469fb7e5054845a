-- Returns a person's contact points. There is one row of nulls for a person who has none, and no row for a person
-- who does not exist.
-- Parameters: district_id, subject_id
-- Columns: contact_point, address
select c.kind as contact_point, c.value as address
from person p
left join contact_point c on c.district_id = p.district_id and c.person_id = p.person_id
where p.district_id = :district_id and p.person_id = :subject_id
