-- Notes that a chunk is done: the run has got further. The row is locked since the chunk was opened.
-- Parameters: district_id, batch_run_id, chunk, subjects
update batch_run set chunks_done = :chunk, done = done + :subjects, claims = 0
where district_id = :district_id and batch_run_id = :batch_run_id
