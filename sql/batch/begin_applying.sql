-- Forgets what a plan foresaw, when it is applied: what really happens is counted instead.
-- Parameters: district_id, batch_run_id
update batch_cell
set updated = 0, unchanged = 0, overwrote_chosen = 0, kept_chosen = 0, people_affected = 0
where district_id = :district_id and batch_run_id = :batch_run_id
