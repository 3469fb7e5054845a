-- Folding the log up to a revision, the mark, into a baseline (D28): of the rows up to the mark, what is not the last
-- change of its bit, or of its kind, is removed. The log still replays to the same preferences, and still says who set
-- each of them last. `begin` comes first, with `bound` and `close_runs` in one transaction. Then each bucket, and each
-- stretch of change sets, is folded in transactions of its own, from the oldest revision to the mark. A process that is
-- killed leaves a log that is folded in part and says the same; folding again goes on.

-- name: lock
-- Waits for another transaction that folds the log of the same district. The lock ends with the transaction.
-- Parameters: district_id
-- Columns: none
select pg_advisory_xact_lock(1818453862, :district_id::integer)

-- name: bound
-- Returns up to which revision the log may be folded, at most :up_to: not beyond the newest, and not what an unfinished
-- run did, because it may still have to be reverted. The end of a run's revert is the end of the run.
-- Parameters: district_id, up_to
-- Columns: mark
select least(:up_to, d.revision,
  (select min(s.revision) - 1
    from batch_run r
    join change_set s on s.district_id = :district_id and s.batch_run_id = r.batch_run_id
    where r.district_id = :district_id and not is_at_rest(r.status))) as mark
from district d where d.district_id = :district_id

-- name: close_runs
-- Marks the runs that did something up to the mark: what they did is no longer whole in the log, so they cannot be
-- reverted. It locks them, in order. A run whose revert was asked for in the same moment is left out.
-- Parameters: district_id, mark
-- Columns: none
update batch_run r set folded = true
from (
  select b.batch_run_id
  from batch_run b
  where b.district_id = :district_id and not b.folded and is_at_rest(b.status)
    and exists (
      select from change_set s
      where s.district_id = :district_id and s.batch_run_id = b.batch_run_id and s.revision <= :mark)
  order by b.batch_run_id
  for no key update
) closing
where r.district_id = :district_id and r.batch_run_id = closing.batch_run_id

-- name: begin
-- Records from which revision on the log is whole. Nothing is recorded if a run that did something up to the mark was
-- not closed. This locks the district's row.
-- Parameters: district_id, mark
-- Columns: log_begins
update district d set log_begins = greatest(d.log_begins, :mark + 1)
where d.district_id = :district_id and not exists (
  select from batch_run b
  join change_set s on s.district_id = :district_id and s.batch_run_id = b.batch_run_id
  where b.district_id = :district_id and not b.folded and s.revision <= :mark)
returning d.log_begins

-- name: next_bucket
-- Returns the first bucket, from :bucket on, of the persons, households, schools or reasons that the log names.
-- Parameters: district_id, subject, bucket
-- Columns: bucket
select min(bucket) as bucket from change
where district_id = :district_id and subject = :subject and bucket >= :bucket

-- name: next_mark
-- Returns the revision, after one and up to the mark, up to which a bucket is folded by the next statement: so that it
-- takes about :most ids together.
-- Parameters: district_id, subject, bucket, after, mark, most
-- Columns: mark
select coalesce(min(revision) filter (where ids >= :most), :mark) as mark
from (
  select revision, sum(cardinality(subject_ids)) over (order by revision) as ids
  from change
  where district_id = :district_id and subject = :subject and bucket = :bucket
    and revision > :after and revision <= :mark
) so_far

-- name: bucket
-- Folds the rows of one bucket up to the mark. Whether a preference is on and whether it is chosen are told by different
-- masks, and the last change of each stays. A change of another kind holds no masks, and the last of its kind stays.
-- Parameters: district_id, subject, bucket, mark
-- Columns: none
with old as (
  delete from change
  where district_id = :district_id and subject = :subject and bucket = :bucket and revision <= :mark
  returning *
),
one as materialized ( -- so that what is sorted is not the arrays; as in the view subject_change
  select o.revision, o.kind, o.contact_point, o.method, s.subject_id,
    mask_at(masks.turned_on, s.place) as turned_on, mask_at(masks.turned_off, s.place) as turned_off,
    mask_at(masks.chosen, s.place) as chosen, mask_at(masks.unchosen, s.place) as unchosen
  from old o
  cross join lateral (
    select o.subject_ids || '{}'::bigint[] as subject_ids, o.turned_on || '{}'::bigint[] as turned_on,
      o.turned_off || '{}'::bigint[] as turned_off, o.chosen || '{}'::bigint[] as chosen,
      o.unchosen || '{}'::bigint[] as unchosen
    offset 0
  ) masks
  cross join lateral unnest(masks.subject_ids) with ordinality as s (subject_id, place)
),
later as (
  select o.*, row_number() over newest_first as place,
    coalesce(bit_or(turned_on | turned_off) over newer, 0) as set_later,
    coalesce(bit_or(chosen | unchosen) over newer, 0) as chosen_later
  from one o
  window newest_first as (partition by subject_id, kind, contact_point, method order by revision desc),
    newer as (newest_first rows between unbounded preceding and 1 preceding)
),
changed as (
  select revision, kind, contact_point, method, subject_id, place,
    turned_on & ~set_later as turned_on, turned_off & ~set_later as turned_off,
    chosen & ~chosen_later as chosen, unchosen & ~chosen_later as unchosen
  from later
)
insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids,
  turned_on, turned_off, chosen, unchosen, reasons, lowest_id, highest_id)
select :district_id, revision, :subject, :bucket, kind, contact_point, method, array_agg(subject_id order by subject_id),
  packed_masks(array_agg(turned_on order by subject_id)),
  packed_masks(array_agg(turned_off order by subject_id)),
  packed_masks(array_agg(chosen order by subject_id)),
  packed_masks(array_agg(unchosen order by subject_id)),
  bit_or(turned_on | turned_off | chosen | unchosen), min(subject_id), max(subject_id)
from changed
where turned_on | turned_off | chosen | unchosen <> 0 or kind <> 'PREFERENCES' and place = 1
group by revision, kind, contact_point, method
order by revision, kind, contact_point, method

-- name: remove_change_sets
-- Removes the change sets, after a revision and up to another one, that no row of the log names any more.
-- Parameters: district_id, after, up_to
-- Columns: none
delete from change_set s
where s.district_id = :district_id and s.revision > :after and s.revision <= :up_to
  and not exists (select from change c where c.district_id = :district_id and c.revision = s.revision)
