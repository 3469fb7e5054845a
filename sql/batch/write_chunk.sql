-- Writes a chunk of a run: the targets of :state. Preferences that are still as they were when the target was decided
-- become what was decided, and that is logged (D28). Nothing is locked beforehand. PostgreSQL compares key and masks of a
-- row when it updates it, and once more if it had to wait for somebody else's transaction; whatever was changed is
-- therefore not among the rows that were updated, and is kept back: it is CHANGED in batch_target, to be decided again
-- under locks (see batch/chunk). What was already as asked is not written, and counts if it is still so.
--
-- {table} and {subject}: see preference/write. {log} is log/append: it logs what changed where something was kept back.
-- Else a target is already what the log tells of it.
--
-- `place` only finds the row quickly. The key, district_id too, is compared in a form that no index fits: the planner is
-- left with a look at the place for each of the rows to write, in whose order they are therefore locked. Else it would
-- read all preferences of a district that is larger than its statistics tell. A batch names each contact point with one
-- method alone (D14).
--
-- Each step reads the one before it, so that PostgreSQL executes them in this order: update, insert the missing rows,
-- take the district's revision, log. The district's row is locked last; that of the run is locked already.
-- Parameters: district_id, batch_run_id, chunk, state, household, subjects, keep_chosen, source, actor
-- Columns: contact_point, asked, flipped, overwrote, kept, skipped_as_chosen, rows, revision, kept_back (how many channels)
with target as materialized (
  -- The masks that are the same for all, read from their arrays once for all.
  select *, on_masks[1] as on_mask, off_masks[1] as off_mask, skip_if_chosen[1] as skip, mark_as_chosen[1] as mark,
    was_on[1] as first_was_on, was_chosen[1] as first_was_chosen, leave[1] as first_leave, turned_on[1] as first_turned_on,
    turned_off[1] as first_turned_off, chosen[1] as first_chosen, unchosen[1] as first_unchosen,
    1 >= greatest(cardinality(on_masks), cardinality(off_masks), cardinality(mark_as_chosen), cardinality(was_on),
      cardinality(was_chosen), cardinality(leave), cardinality(turned_on), cardinality(turned_off)) as alike
  from batch_target
  where district_id = :district_id and batch_run_id = :batch_run_id and chunk = :chunk and state = :state
),
written as (
  update {table} p
  set reasons_on = w.was_on # w.flipped, reasons_chosen = w.was_chosen # w.choice_flipped
  from (
    select s.subject_id, t.contact_point, t.method, s.place, coalesce(s.was_on, t.first_was_on) as was_on,
      coalesce(s.was_chosen, t.first_was_chosen) as was_chosen,
      coalesce(s.turned_on, t.first_turned_on, 0) | coalesce(s.turned_off, t.first_turned_off, 0) as flipped,
      coalesce(s.chosen, t.first_chosen, 0) | coalesce(s.unchosen, t.first_unchosen, 0) as choice_flipped
    from target t
    cross join lateral unnest(t.subject_ids, t.places, t.was_on, t.was_chosen, t.turned_on, t.turned_off, t.chosen,
        t.unchosen)
      as s (subject_id, place, was_on, was_chosen, turned_on, turned_off, chosen, unchosen)
    where t.changes
    order by s.subject_id, t.contact_point
  ) w
  where p.ctid = w.place
    and (p.district_id, p.{subject}, p.contact_point, p.method, p.reasons_on, p.reasons_chosen)
      is not distinct from (:district_id::integer, w.subject_id, w.contact_point, w.method, w.was_on, w.was_chosen)
  returning w.subject_id, w.contact_point
),
updated as materialized (
  select count(*) as rows from written
),
added as (
  insert into {table} (district_id, {subject}, contact_point, method, reasons_on, reasons_chosen)
  select :district_id, s.subject_id, t.contact_point, t.method, coalesce(s.turned_on, t.first_turned_on, 0),
    coalesce(s.chosen, t.first_chosen, 0)
  from target t
  cross join lateral unnest(t.subject_ids, t.places, t.turned_on, t.chosen) as s (subject_id, place, turned_on, chosen)
  where t.changes and array_position(t.places, null) is not null and s.place is null and (select rows from updated) >= 0
  order by s.subject_id, t.contact_point
  on conflict do nothing
  returning {subject} as subject_id, contact_point
),
as_asked as (
  select s.subject_id, t.contact_point
  from target t
  cross join lateral unnest(t.subject_ids, t.was_on, t.was_chosen) as s (subject_id, was_on, was_chosen)
  left join lateral (
    select p.reasons_on, p.reasons_chosen
    from {table} p
    where p.district_id = :district_id and p.{subject} = s.subject_id
      and p.contact_point = t.contact_point and p.method = t.method
    offset 0
  ) now on true
  where not t.changes and coalesce(now.reasons_on, 0) = coalesce(s.was_on, t.first_was_on)
    and coalesce(now.reasons_chosen, 0) = coalesce(s.was_chosen, t.first_was_chosen)
),
done as materialized (
  select changed, changed + as_asked = (select sum(channels) from target) as whole
  from (
    select (select rows from updated) + (select count(*) from added) as changed,
      (select count(*) from as_asked) as as_asked
  ) n
),
kept_back as materialized (
  select s.subject_id, t.contact_point, t.method, t.bucket, t.changes, coalesce(s.on_mask, t.on_mask, 0) as on_mask,
    coalesce(s.off_mask, t.off_mask, 0) as off_mask, coalesce(s.skip, t.skip, 0) as skip, coalesce(s.mark, t.mark, 0) as mark,
    coalesce(s.was_on, t.first_was_on) as was_on, coalesce(s.was_chosen, t.first_was_chosen) as was_chosen
  from target t
  cross join lateral unnest(t.subject_ids, t.on_masks, t.off_masks, t.skip_if_chosen, t.mark_as_chosen, t.was_on, t.was_chosen)
    as s (subject_id, on_mask, off_mask, skip, mark, was_on, was_chosen)
  where (select not whole from done)
    and (s.subject_id, t.contact_point) not in (
      select subject_id, contact_point from written
      union all
      select subject_id, contact_point from added
      union all
      select subject_id, contact_point from as_asked)
),
under_locks as (
  insert into batch_target (district_id, batch_run_id, chunk, household, contact_point, method, bucket, changes, state,
    subjects, channels, subject_ids, on_masks, off_masks, skip_if_chosen, mark_as_chosen, was_on, was_chosen)
  select :district_id, :batch_run_id, :chunk, :household, contact_point, method, bucket, changes, 'CHANGED',
    :subjects, count(*), array_agg(subject_id order by subject_id), array_agg(on_mask order by subject_id),
    array_agg(off_mask order by subject_id), array_agg(skip order by subject_id), array_agg(mark order by subject_id),
    array_agg(was_on order by subject_id), array_agg(was_chosen order by subject_id)
  from kept_back
  where :state = 'PLANNED'
  group by contact_point, method, bucket, changes
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
logged_as_decided as (
  insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids, turned_on,
    turned_off, chosen, unchosen, reasons, lowest_id, highest_id)
  select :district_id, n.revision, {kind}, t.bucket, 'PREFERENCES', t.contact_point, t.method, t.subject_ids, t.turned_on,
    t.turned_off, t.chosen, t.unchosen, t.reasons, t.subject_ids[1], t.subject_ids[t.channels]
  from next_revision n cross join target t
  where t.changes and (select whole from done)
),
changed as (
  select s.subject_id, t.contact_point, t.method, coalesce(s.turned_on, t.first_turned_on, 0) as turned_on,
    coalesce(s.turned_off, t.first_turned_off, 0) as turned_off, coalesce(s.chosen, t.first_chosen, 0) as chosen,
    coalesce(s.unchosen, t.first_unchosen, 0) as unchosen
  from target t
  cross join lateral unnest(t.subject_ids, t.turned_on, t.turned_off, t.chosen, t.unchosen)
    as s (subject_id, turned_on, turned_off, chosen, unchosen)
  where t.changes and (select not whole from done)
    and (s.subject_id, t.contact_point) not in (select subject_id, contact_point from kept_back)
),
logged as (
  {log}
),
closed as (
  update batch_run r
  set claims = 0, chunks_done = case when n.kept_back = 0 then :chunk else r.chunks_done end,
    done = r.done + case when n.kept_back = 0 then :subjects else 0 end
  from (select count(*) as kept_back from kept_back) n
  where r.district_id = :district_id and r.batch_run_id = :batch_run_id
),
counted as (
  select contact_point, on_mask | off_mask | mark as asked, flipped, flipped & was_chosen as overwrote,
    case when :keep_chosen then differs & ~(flipped | leave) else 0 end as kept,
    (on_mask | off_mask | mark) & leave as skipped_as_chosen, sum(rows)::bigint as rows
  from (
    select contact_point, on_mask, off_mask, mark, leave, turned_on | turned_off as flipped, was_chosen, rows,
      (on_mask & ~was_on) | (off_mask & was_on) as differs
    from (
      select t.contact_point, coalesce(s.on_mask, t.on_mask, 0) as on_mask, coalesce(s.off_mask, t.off_mask, 0) as off_mask,
        coalesce(s.mark, t.mark, 0) as mark, coalesce(s.was_on, t.first_was_on) as was_on,
        coalesce(s.was_chosen, t.first_was_chosen) as was_chosen, coalesce(s.leave, t.first_leave, 0) as leave,
        coalesce(s.turned_on, t.first_turned_on, 0) as turned_on, coalesce(s.turned_off, t.first_turned_off, 0) as turned_off,
        1 as rows
      from target t
      cross join lateral unnest(t.subject_ids, t.on_masks, t.off_masks, t.mark_as_chosen, t.was_on, t.was_chosen, t.leave,
          t.turned_on, t.turned_off)
        as s (subject_id, on_mask, off_mask, mark, was_on, was_chosen, leave, turned_on, turned_off)
      where not (t.alike and (select whole from done))
        and (s.subject_id, t.contact_point) not in (select subject_id, contact_point from kept_back)
      union all
      select t.contact_point, coalesce(t.on_mask, 0), coalesce(t.off_mask, 0), coalesce(t.mark, 0), t.first_was_on,
        t.first_was_chosen, coalesce(t.first_leave, 0), coalesce(t.first_turned_on, 0), coalesce(t.first_turned_off, 0),
        t.channels
      from target t
      where t.alike and (select whole from done)
    ) c
  ) c
  group by 1, 2, 3, 4, 5, 6
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
