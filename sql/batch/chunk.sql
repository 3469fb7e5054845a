-- The target of one chunk (see preference/write.sql).
-- Parameters: district_id, batch_run_id, chunk
-- Columns: subject_id, contact_point, method, on_mask, off_mask, yield_mask, choose_mask
select s.subject_id, t.contact_point, t.method, t.on_mask, t.off_mask, t.yield_mask, t.choose_mask
from batch_target t
cross join lateral unnest(t.subject_ids) as s (subject_id)
where t.district_id = :district_id and t.batch_run_id = :batch_run_id and t.chunk = :chunk
