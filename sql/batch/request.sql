-- What a request for a run is validated against, and its idempotency key.

-- name: known_schools
-- Returns which of the given schools the district has.
-- Parameters: district_id, school_ids
-- Columns: school_id
select school_id from school where district_id = :district_id and school_id = any(:school_ids::bigint[])

-- name: unknown_grades
-- Compares the given grades with those of the district's enrollments, of any time (D32). Returns every grade that
-- the district has, and each given grade that it does not have. {key} is the expression by which the grade of a
-- row `g` is compared.
-- Parameters: district_id, grades
-- Columns: position (of an unknown grade in the given list, from 0; null for a grade that the district has), grade
with keyed as (
  select g.position, g.grade, {key} as key
  from (
    select null::bigint as position, e.grade
    from (select distinct grade from enrollment where district_id = :district_id) e
    union all
    select asked.position - 1, asked.grade
    from unnest(:grades::text[]) with ordinality as asked (grade, position)
  ) g
)
select position, grade
from keyed named
where position is null
  or not exists (select from keyed there where there.position is null and there.key = named.key)
order by position, grade

-- name: disabled_cells
-- Returns which of the given cells the district has switched off (D15).
-- Parameters: district_id, contact_points, reasons (arrays of one length)
-- Columns: contact_point, reason
select contact_point, reason from disabled_cell
where district_id = :district_id
  and (contact_point, reason) in (
    select * from unnest(:contact_points::contact_point_kind[], :reasons::text[]))

-- name: find_idempotency_key
-- Returns the run that an idempotency key stands for, and the hash of the request that it came with.
-- Parameters: district_id, key, valid_seconds
-- Columns: request_hash, batch_run_id
select request_hash, batch_run_id from idempotency_key
where district_id = :district_id and key = :key and created_at >= now() - make_interval(secs => :valid_seconds)

-- name: claim_idempotency_key
-- Makes an idempotency key stand for a run. No row is returned if the key stands for another run already. Of two
-- requests at the same time the second waits for the first.
-- Parameters: district_id, key, request_hash, batch_run_id, valid_seconds
-- Columns: batch_run_id
insert into idempotency_key as existing (district_id, key, request_hash, batch_run_id)
values (:district_id, :key, :request_hash, :batch_run_id)
on conflict (district_id, key) do update
set request_hash = excluded.request_hash, batch_run_id = excluded.batch_run_id, created_at = now()
where existing.created_at < now() - make_interval(secs => :valid_seconds)
returning batch_run_id
