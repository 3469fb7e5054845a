-- The target of one chunk (see preference/write.sql).
-- Parameters: district_id, batch_run_id, chunk
-- Columns: subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen
select s.subject_id, t.contact_point, t.method, t.on_mask, t.off_mask, t.skip_if_chosen, t.mark_as_chosen
from batch_target t
cross join lateral unnest(t.subject_ids) as s (subject_id)
where t.district_id = :district_id and t.batch_run_id = :batch_run_id and t.chunk = :chunk
