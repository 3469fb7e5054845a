-- Whether a run that is not finished selects its people by a saved filter; one that is PLANNED needs it when it is applied.
-- Parameters: district_id, saved_filter_id
-- Columns: in_use
select exists (
  select from batch_run
  where district_id = :district_id and status in ('QUEUED', 'PLANNING', 'PLANNED', 'APPLYING', 'REVERTING')
    and scope @> jsonb_build_object('filterId', :saved_filter_id::bigint)) as in_use
