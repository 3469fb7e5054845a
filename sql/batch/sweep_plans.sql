-- Ends plans that nobody has applied for long, so that they do not pile up.
-- Parameters: kept_seconds, error
update batch_run set status = 'CANCELLED', finished_at = now(), errors = array[:error::text]
where status = 'PLANNED' and planned_at < now() - make_interval(secs => :kept_seconds)
