-- Turns preferences on and off, and logs what really changed (D28). All writes but the chunks of a run (batch/write_chunk)
-- use this statement.
--
-- {target} is a SELECT of subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen and mark_as_chosen, each
-- channel once. skip_if_chosen are the bits that stay as they are if they are chosen now; mark_as_chosen are the bits
-- that become chosen, unless they are asked for and do not change. {table} is `preference` and {subject} its column `person_id`, or
-- `household_preference` and `household_id`. {log} is log/append.
--
-- A bit that changes is not chosen any more (D18). With keep_chosen every chosen bit stays as it is. With mark_chosen
-- every bit that is asked for becomes chosen (D23).
--
-- Each step reads the one before it, so that PostgreSQL executes them in this order: lock the rows in key order,
-- decide, update, insert the missing rows, take the district's revision, log. The district's row is locked last. If
-- another transaction inserts a missing row at the same time, the statement fails with unique_violation (23505): the
-- transaction must be repeated.
-- Parameters: district_id, keep_chosen, mark_chosen, source, actor, batch_run_id
-- Columns: contact_point, asked, flipped, overwrote, kept, skipped_as_chosen, rows, revision
with target as materialized (
  {target}
),
locked as materialized (
  select t.*, existing.reasons_on is not null as found, coalesce(existing.reasons_on, 0) as reasons_on,
    coalesce(existing.reasons_chosen, 0) as reasons_chosen
  from (select * from target order by subject_id, contact_point, method) t
  left join lateral (
    select p.reasons_on, p.reasons_chosen
    from {table} p
    where p.district_id = :district_id and p.{subject} = t.subject_id
      and p.contact_point = t.contact_point and p.method = t.method
    for update
  ) existing on true
),
differing as (
  select l.*, l.on_mask | l.off_mask as asked, (l.on_mask & ~l.reasons_on) | (l.off_mask & l.reasons_on) as differs
  from locked l
),
kept as (
  select d.*, case when :keep_chosen then d.differs & d.reasons_chosen & ~d.skip_if_chosen else 0 end as kept,
    d.differs & d.reasons_chosen & d.skip_if_chosen as skipped_as_chosen
  from differing d
),
flipping as (
  select k.*, k.differs & ~k.kept & ~k.skipped_as_chosen as flipped from kept k
),
decision as materialized (
  select f.found, f.subject_id, f.contact_point, f.method, f.asked, f.kept, f.skipped_as_chosen, f.flipped,
    f.flipped & f.reasons_chosen as overwrote,
    f.flipped & f.on_mask as turned_on,
    f.flipped & f.off_mask as turned_off,
    case when :mark_chosen then f.asked & ~f.reasons_chosen else f.mark_as_chosen & (f.flipped | ~f.asked) & ~f.reasons_chosen end as chosen,
    case when :mark_chosen then 0 else f.flipped & f.reasons_chosen & ~f.mark_as_chosen end as unchosen
  from flipping f
),
written as (
  update {table} p
  set reasons_on = p.reasons_on # d.flipped, reasons_chosen = (p.reasons_chosen | d.chosen) & ~d.unchosen
  from decision d
  where p.district_id = :district_id and p.{subject} = d.subject_id
    and p.contact_point = d.contact_point and p.method = d.method
    and d.found and d.flipped | d.chosen <> 0
  returning d.subject_id, d.contact_point, d.method, d.turned_on, d.turned_off, d.chosen, d.unchosen
),
added as (
  insert into {table} (district_id, {subject}, contact_point, method, reasons_on, reasons_chosen)
  select :district_id, d.subject_id, d.contact_point, d.method, d.turned_on, d.chosen
  from decision d
  where not d.found and d.flipped | d.chosen <> 0 and (select count(*) from written) >= 0
  order by d.subject_id, d.contact_point, d.method
  returning {subject} as subject_id, contact_point, method, reasons_on, reasons_chosen
),
changed as (
  select * from written
  union all
  select subject_id, contact_point, method, reasons_on, 0, reasons_chosen, 0 from added
),
next_revision as (
  update district set revision = revision + 1
  where district_id = :district_id and (select count(*) from changed) > 0
  returning district_id, revision
),
change_set_row as (
  insert into change_set (district_id, revision, source, actor, batch_run_id)
  select district_id, revision, :source, :actor, :batch_run_id from next_revision
),
logged as (
  {log}
)
select d.contact_point, d.asked, d.flipped, d.overwrote, d.kept, d.skipped_as_chosen, count(*) as rows,
  (select revision from next_revision) as revision
from decision d
group by d.contact_point, d.asked, d.flipped, d.overwrote, d.kept, d.skipped_as_chosen
