-- Writes a chunk of a run: turns preferences on and off that are still as its plan read them, and logs what changed
-- (D28). Nothing is locked beforehand. PostgreSQL compares key and masks of a row when it updates it, and once more if
-- it had to wait for somebody else's transaction; whatever was changed after the plan is therefore not among the rows
-- that were updated, and is kept back in batch_target, to be written under locks (see batch/chunk).
--
-- {target} is a SELECT of subject_id, contact_point, method, missing, place, on_mask, off_mask, skip_if_chosen,
-- mark_as_chosen, was_on, was_chosen (all as in batch_target) and changed, each channel once. `changed` are bits that
-- stay as they are because somebody changed them after the plan. {table} and {subject}: see preference/write. {log} is
-- log/append.
--
-- A bit that changes is not chosen any more (D18). With keep_chosen every chosen bit stays as it is; those of
-- skip_if_chosen stay in any case if they are chosen. Those of mark_as_chosen become chosen, unless they are asked for
-- and do not change (D29).
--
-- `place` only finds the row quickly. The key, district_id too, is compared in a form that no index fits: the planner is
-- left with a look at the place for each row of `decision`, in whose order the rows are therefore locked. Else it would
-- read all preferences of a district that is larger than its statistics tell.
--
-- Each step reads the one before it, so that PostgreSQL executes them in this order: update, insert the missing rows,
-- take the district's revision, log. The district's row is locked last; that of the run is locked already. Rows that
-- are already as asked are not written; they count if they are still so.
-- Parameters: district_id, batch_run_id, chunk, household, subjects, under_locks, keep_chosen, source, actor
-- Columns: contact_point, asked, flipped, overwrote, kept, skipped_as_chosen, rows, revision, kept_back (how many channels)
with decision as materialized (
  select subject_id, contact_point, method, missing, place, was_on, was_chosen, flipped,
    on_mask | off_mask | (mark_as_chosen & leave) as asked, flipped & on_mask as turned_on, flipped & off_mask as turned_off,
    case when mark_as_chosen = 0 then 0
      else mark_as_chosen & ~was_chosen & ~leave & (flipped | ~(on_mask | off_mask)) end as chosen,
    flipped & was_chosen & ~mark_as_chosen as unchosen,
    case when :keep_chosen then differs & ~flipped & ~leave else 0 end as kept,
    case when leave = 0 then 0 else (differs | mark_as_chosen) & leave end as skipped_as_chosen
  from (
    select t.*, differs & ~(leave | case when :keep_chosen then was_chosen else 0 end) as flipped
    from (
      select t.*, (on_mask & ~was_on) | (off_mask & was_on) as differs, (skip_if_chosen & was_chosen) | changed as leave
      from ({target}) t
    ) t
    order by subject_id, contact_point, method
  ) t
),
written as (
  update {table} p
  set reasons_on = d.was_on # (d.turned_on | d.turned_off), reasons_chosen = (d.was_chosen | d.chosen) & ~d.unchosen
  from (
    select subject_id, contact_point, method, place, was_on, was_chosen, turned_on, turned_off, chosen, unchosen
    from decision
    where not missing and flipped | chosen <> 0
    offset 0
  ) d
  where p.ctid = d.place
    and (p.district_id, p.{subject}, p.contact_point, p.method, p.reasons_on, p.reasons_chosen)
      is not distinct from (:district_id::integer, d.subject_id, d.contact_point, d.method, d.was_on, d.was_chosen)
  returning d.subject_id, d.contact_point, d.method, d.turned_on, d.turned_off, d.chosen, d.unchosen
),
others as materialized (
  select * from decision where missing or flipped | chosen = 0
),
added as (
  insert into {table} (district_id, {subject}, contact_point, method, reasons_on, reasons_chosen)
  select :district_id, d.subject_id, d.contact_point, d.method, d.turned_on, d.chosen
  from others d
  where d.flipped | d.chosen <> 0 and (select count(*) from written) >= 0
  on conflict do nothing
  returning {subject} as subject_id, contact_point, method, reasons_on, reasons_chosen
),
as_asked as (
  select d.subject_id, d.contact_point, d.method
  from others d
  left join lateral (
    select p.reasons_on, p.reasons_chosen
    from {table} p
    where p.district_id = :district_id and p.{subject} = d.subject_id
      and p.contact_point = d.contact_point and p.method = d.method
    offset 0
  ) now on true
  where d.flipped | d.chosen = 0
    and coalesce(now.reasons_on, 0) = d.was_on and coalesce(now.reasons_chosen, 0) = d.was_chosen
),
changed as not materialized (
  select * from written
  union all
  select subject_id, contact_point, method, reasons_on, 0, reasons_chosen, 0 from added
),
done as materialized (
  select (select count(*) from changed) as changed, (select count(*) from as_asked) as as_asked
),
next_revision as (
  update district set revision = revision + 1
  where district_id = :district_id and (select changed from done) > 0
  returning district_id, revision
),
change_set_row as (
  insert into change_set (district_id, revision, source, actor, batch_run_id)
  select district_id, revision, :source, :actor, :batch_run_id from next_revision
),
logged as (
  {log}
),
kept_back as materialized (
  select t.*
  from ({target}) t
  where (select count(*) from decision) > (select changed + as_asked from done)
    and (t.subject_id, t.contact_point, t.method) not in (
      select subject_id, contact_point, method from changed
      union all
      select subject_id, contact_point, method from as_asked)
),
under_locks as (
  insert into batch_target (district_id, batch_run_id, chunk, household, contact_point, method, missing, under_locks,
    subjects, subject_ids, on_masks, off_masks, skip_if_chosen, mark_as_chosen, was_on, was_chosen)
  select :district_id, :batch_run_id, :chunk, :household, contact_point, method, missing, true, :subjects,
    array_agg(subject_id order by subject_id), array_agg(on_mask order by subject_id),
    array_agg(off_mask order by subject_id), array_agg(skip_if_chosen order by subject_id),
    array_agg(mark_as_chosen order by subject_id), array_agg(was_on order by subject_id),
    array_agg(was_chosen order by subject_id)
  from kept_back
  where not :under_locks
  group by contact_point, method, missing
),
closed as (
  update batch_run r
  set claims = 0, chunks_done = case when n.kept_back = 0 then :chunk else r.chunks_done end,
    done = r.done + case when n.kept_back = 0 then :subjects else 0 end
  from (select count(*) as kept_back from kept_back) n
  where r.district_id = :district_id and r.batch_run_id = :batch_run_id
),
counted as (
  select contact_point, asked, flipped, flipped & was_chosen as overwrote, kept, skipped_as_chosen, count(*) as rows
  from decision
  where (select count(*) from kept_back) = 0
    or (subject_id, contact_point, method) not in (select subject_id, contact_point, method from kept_back)
  group by contact_point, asked, flipped, flipped & was_chosen, kept, skipped_as_chosen
)
select c.contact_point, coalesce(c.asked, 0) as asked, coalesce(c.flipped, 0) as flipped,
  coalesce(c.overwrote, 0) as overwrote, coalesce(c.kept, 0) as kept, coalesce(c.skipped_as_chosen, 0) as skipped_as_chosen,
  c.rows, (select revision from next_revision) as revision, (select count(*) from kept_back) as kept_back
from (select) one
left join (
  -- Each mask by itself: counts of cells are sums of each, and their combinations may be thousands.
  select contact_point, asked, flipped, overwrote, kept, skipped_as_chosen, sum(rows)::bigint as rows
  from counted
  group by grouping sets ((contact_point, asked), (contact_point, flipped), (contact_point, overwrote),
    (contact_point, kept), (contact_point, skipped_as_chosen))
) c on true
