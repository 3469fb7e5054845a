-- School: every role sees the schools of its district.
-- Parameters: district_id
-- Columns: school_id, id, name, source_id, portal_contact_information
select s.school_id, 'school_' || s.school_id as id, s.name, s.source_id, s.portal_contact_information
from school s
where s.district_id = :district_id
