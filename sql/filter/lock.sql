-- Makes the savers of one district's filters wait for each other until their transactions end, so that a name
-- that was free when it was looked up is still free when it is taken.
-- Parameters: district_id
select pg_advisory_xact_lock(hashtext('saved_filter'), :district_id)
