-- Records the cells of a revert: those of the run that it undoes, the other way round.
-- Parameters: district_id, batch_run_id, reverts_run_id
insert into batch_cell (district_id, batch_run_id, contact_point, reason, turn_on)
select district_id, :batch_run_id, contact_point, reason, not turn_on
from batch_cell where district_id = :district_id and batch_run_id = :reverts_run_id
