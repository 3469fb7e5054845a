-- Takes the district's next revision and opens its change set (D28). Locks the district's row: nothing is locked after.
-- Parameters: district_id, source, actor, batch_run_id
-- Columns: revision
with taken as (
  update district set revision = revision + 1 where district_id = :district_id returning district_id, revision
)
insert into change_set (district_id, revision, source, actor, batch_run_id)
select district_id, revision, :source, :actor, :batch_run_id from taken
returning revision
