-- Conditions that many statements share, each written once. PostgreSQL puts the text of such a function in the place of
-- its call, so that indexes are used as before: each is one expression, immutable, and not strict.

-- D6: whether something with a start and an end, each of which may be open, is active on a day.
create function active_on(start_date date, end_date date, day date) returns boolean
  language sql immutable parallel safe
  return (start_date is null or start_date <= day) and (end_date is null or end_date >= day);

-- D21: whether a run waits for a worker or has one. The predicate of the index batch_run_unfinished.
create function is_unfinished(status batch_status) returns boolean
  language sql immutable parallel safe
  return status in ('QUEUED', 'PLANNING', 'APPLYING');

-- Whether a worker has a run, so that its lease counts.
create function is_worked(status batch_status) returns boolean
  language sql immutable parallel safe
  return status in ('PLANNING', 'APPLYING');

-- Whether the plan of a run is, or may still be, applied. Of other runs the log holds what they did.
create function needs_plan(status batch_status) returns boolean
  language sql immutable parallel safe
  return status in ('QUEUED', 'PLANNING', 'PLANNED', 'APPLYING');

-- Whether nothing more happens to a run by itself: it has ended, or is a plan that waits to be applied. A run that is
-- REVERTING is not at rest until its revert has ended.
create function is_at_rest(status batch_status) returns boolean
  language sql immutable parallel safe
  return status not in ('QUEUED', 'PLANNING', 'APPLYING', 'REVERTING');
