-- A run keeps the criteria that it was asked with (D33), in its scope, beside the id of the filter that they are of.

update batch_run r
set scope = r.scope || jsonb_build_object('criteria', f.criteria)
from saved_filter f
where r.status in ('QUEUED', 'PLANNING', 'PLANNED') and not r.scope ? 'criteria'
  and f.district_id = r.district_id and f.saved_filter_id = (r.scope ->> 'filterId')::bigint;
comment on column batch_run.scope is
  'What narrows the mode, after validation: schoolIds, schoolYear, grades, filterId (internal ids), and criteria, '
  'those of the filter when the run was asked for.';
