-- Gives the tokens of schools their schools. Those of other organizations keep null: the district's own office.
-- Parameters: district_id
update import_identity i set id = s.school_id
from school s
where s.district_id = :district_id and s.source_id = i.key and i.kind in ('school', 'organization')
