-- Turns preferences on and off, and logs what really changed (D28). All writes use this statement, but the chunks of a
-- run, which use batch/write_chunk.
--
-- {target} is a SELECT of subject_id, contact_point, method, on_mask and off_mask, each channel once. {table} is
-- `preference` and {subject} its column `person_id`, or `household_preference` and `household_id`. {log} is log/append.
--
-- A bit that changes is not chosen any more (D18). With mark_chosen every bit that is asked for becomes chosen (D23).
--
-- Each step reads the one before it, so that PostgreSQL executes them in this order: lock the rows in key order,
-- decide, update, insert the missing rows, take the district's revision, log. The district's row is locked last. If
-- another transaction inserts a missing row at the same time, the statement fails with unique_violation (23505): the
-- transaction must be repeated.
-- Parameters: district_id, mark_chosen, source, actor
-- Columns: contact_point, asked, flipped, overwrote, kept, skipped_as_chosen (both 0), rows, revision
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
flipping as (
  select l.*, l.on_mask | l.off_mask as asked, (l.on_mask & ~l.reasons_on) | (l.off_mask & l.reasons_on) as flipped
  from locked l
),
decision as materialized (
  select f.found, f.subject_id, f.contact_point, f.method, f.asked, f.flipped,
    f.flipped & f.reasons_chosen as overwrote,
    f.flipped & f.on_mask as turned_on,
    f.flipped & f.off_mask as turned_off,
    case when :mark_chosen then f.asked & ~f.reasons_chosen else 0 end as chosen,
    case when :mark_chosen then 0 else f.flipped & f.reasons_chosen end as unchosen
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
  insert into change_set (district_id, revision, source, actor)
  select district_id, revision, :source, :actor from next_revision
),
logged as (
  {log}
)
select d.contact_point, d.asked, d.flipped, d.overwrote, 0::bigint as kept, 0::bigint as skipped_as_chosen,
  count(*) as rows, (select revision from next_revision) as revision
from decision d
group by d.contact_point, d.asked, d.flipped, d.overwrote
