with numbered as (
  select a.household, subject_id, contact_point, a.method, a.on_mask, a.off_mask, a.skip_if_chosen, a.mark_as_chosen,
    p.reasons_on as was_on, p.reasons_chosen as was_chosen, p.place,
    dense_rank() over (partition by a.household order by subject_id) - 1 as position
  from (-- Returns what a revert is to write: a bit that is not what it was is turned on or off again, and a bit that was
select u.household, u.subject_id, u.contact_point, u.method,
  u.on_before & u.differs as on_mask, u.off_before & u.differs as off_mask,
  u.differs & ~(u.chosen_before & ~u.choice_differs) as skip_if_chosen,
  u.chosen_before & (u.differs | (u.choice_differs & ~(coalesce(now.reasons_on, 0) # u.on_before))) as mark_as_chosen
from undone u
left join lateral (
  select p.reasons_on
  from preference p
  where not u.household and u.chosen_before & u.choice_differs & ~u.differs <> 0
    and p.district_id = :district_id and p.person_id = u.subject_id
    and p.contact_point = u.contact_point and p.method = u.method
  union all
  select h.reasons_on
  from household_preference h
  where u.household and u.chosen_before & u.choice_differs & ~u.differs <> 0
    and h.district_id = :district_id and h.household_id = u.subject_id
    and h.contact_point = u.contact_point and h.method = u.method
) now on true) a
  left join (-- Lists the preferences of a district's people or households for the contact points that a run names, by VOICE and EMAIL
select person_id as subject_id, contact_point, reasons_on, reasons_chosen, ctid as place
from preference
where district_id = :district_id and contact_point = any (:current__people__contact_points::contact_point_kind[]) and method <> 'TEXT'
  and person_id > :current__people__after::bigint and person_id <= :current__people__upto::bigint union all -- Lists the preferences of a district's people or households for the contact points that a run names, by VOICE and EMAIL
select household_id as subject_id, contact_point, reasons_on, reasons_chosen, ctid as place
from household_preference
where district_id = :district_id and contact_point = any (:current__households__contact_points::contact_point_kind[]) and method <> 'TEXT'
  and household_id > :current__households__after::bigint and household_id <= :current__households__upto::bigint) p using (subject_id, contact_point) -- the contact point tells people from households
  where a.on_mask | a.off_mask | a.mark_as_chosen <> 0 or a.on_mask is null -- null: no candidate
),
sorted as (
  select *, position / :size::integer as part, was_on is null as missing
  from numbered
  order by household, part, contact_point, method, missing, subject_id
),
grouped as materialized (
  select household, part, contact_point, method, missing, max(position) % :size::integer + 1 as last_position,
    array_agg(subject_id) as subject_ids, array_agg(place) as places,
    packed_masks(array_agg(on_mask), min(on_mask), max(on_mask)) as on_masks,
    packed_masks(array_agg(off_mask), min(off_mask), max(off_mask)) as off_masks,
    packed_masks(array_agg(skip_if_chosen), min(skip_if_chosen), max(skip_if_chosen)) as skip_if_chosen,
    packed_masks(array_agg(mark_as_chosen), min(mark_as_chosen), max(mark_as_chosen)) as mark_as_chosen,
    coalesce(packed_masks(array_agg(was_on), min(was_on), max(was_on)), '{0}') as was_on,
    coalesce(packed_masks(array_agg(was_chosen), min(was_chosen), max(was_chosen)), '{0}') as was_chosen,
    count(*) filter (where on_mask is null) as unknown
  from sorted
  group by household, part, contact_point, method, missing
),
target as (
  insert into batch_target (district_id, batch_run_id, chunk, household, contact_point, method, missing,
    subjects, subject_ids, places, on_masks, off_masks, skip_if_chosen, mark_as_chosen, was_on, was_chosen)
  select :district_id, :batch_run_id, :chunks::integer + dense_rank() over (order by household, part),
    household, contact_point, method, missing, max(last_position) over (partition by household, part),
    subject_ids, places, on_masks, off_masks, skip_if_chosen, mark_as_chosen, was_on, was_chosen
  from grouped
  returning chunk, subjects
)
select (select coalesce(max(chunk), :chunks::integer) from target) as chunks,
  (select coalesce(sum(subjects), 0) from (select distinct chunk, subjects from target) chunks)::bigint as total,
  (select coalesce(sum(unknown), 0) from grouped)::bigint as unknown;

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
      from (-- Returns what a chunk is to write, and what the plan read: the {target} of batch/write_chunk.
select s.subject_id, t.contact_point, t.method, t.missing, s.place,
  coalesce(s.on_mask, t.on_mask) as on_mask, coalesce(s.off_mask, t.off_mask) as off_mask,
  coalesce(s.skip_if_chosen, t.first_skip) as skip_if_chosen, coalesce(s.mark_as_chosen, t.first_mark) as mark_as_chosen,
  coalesce(s.was_on, t.first_was_on) as was_on, coalesce(s.was_chosen, t.first_was_chosen) as was_chosen,
  0::bigint as changed
from (
  select *, coalesce(on_masks[1], 0) as on_mask, coalesce(off_masks[1], 0) as off_mask,
    coalesce(skip_if_chosen[1], 0) as first_skip, coalesce(mark_as_chosen[1], 0) as first_mark,
    was_on[1] as first_was_on, was_chosen[1] as first_was_chosen
  from batch_target
  where district_id = :district_id and batch_run_id = :target__batch_run_id and chunk = :target__chunk and not under_locks
  offset 0
) t
cross join lateral unnest(t.subject_ids, t.places, t.on_masks, t.off_masks, t.skip_if_chosen, t.mark_as_chosen,
    t.was_on, t.was_chosen)
  as s (subject_id, place, on_mask, off_mask, skip_if_chosen, mark_as_chosen, was_on, was_chosen)) t
    ) t
    order by subject_id, contact_point, method
  ) t
),
written as (
  update preference p
  set reasons_on = d.was_on # (d.turned_on | d.turned_off), reasons_chosen = (d.was_chosen | d.chosen) & ~d.unchosen
  from (
    select subject_id, contact_point, method, place, was_on, was_chosen, turned_on, turned_off, chosen, unchosen
    from decision
    where not missing and flipped | chosen <> 0
    offset 0
  ) d
  where p.ctid = d.place
    and (p.district_id, p.person_id, p.contact_point, p.method, p.reasons_on, p.reasons_chosen)
      is not distinct from (:district_id::integer, d.subject_id, d.contact_point, d.method, d.was_on, d.was_chosen)
  returning d.subject_id, d.contact_point, d.method, d.turned_on, d.turned_off, d.chosen, d.unchosen
),
others as materialized (
  select * from decision where missing or flipped | chosen = 0
),
added as (
  insert into preference (district_id, person_id, contact_point, method, reasons_on, reasons_chosen)
  select :district_id, d.subject_id, d.contact_point, d.method, d.turned_on, d.chosen
  from others d
  where d.flipped | d.chosen <> 0 and (select count(*) from written) >= 0
  on conflict do nothing
  returning person_id as subject_id, contact_point, method, reasons_on, reasons_chosen
),
as_asked as (
  select d.subject_id, d.contact_point, d.method
  from others d
  left join lateral (
    select p.reasons_on, p.reasons_chosen
    from preference p
    where p.district_id = :district_id and p.person_id = d.subject_id
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
insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids,
  turned_on, turned_off, chosen, unchosen, reasons, lowest_id, highest_id)
select :district_id, next_revision.revision, 'PERSON', c.bucket, 'PREFERENCES', c.contact_point, c.method, c.subject_ids,
  c.turned_on, c.turned_off, c.chosen, c.unchosen, c.reasons, c.lowest_id, c.highest_id
from (
  select bucket_of(subject_id) as bucket, contact_point, method, array_agg(subject_id order by subject_id) as subject_ids,
    packed_masks(array_agg(turned_on order by subject_id), min(turned_on), max(turned_on)) as turned_on,
    packed_masks(array_agg(turned_off order by subject_id), min(turned_off), max(turned_off)) as turned_off,
    packed_masks(array_agg(chosen order by subject_id), min(chosen), max(chosen)) as chosen,
    packed_masks(array_agg(unchosen order by subject_id), min(unchosen), max(unchosen)) as unchosen,
    bit_or(turned_on | turned_off | chosen | unchosen) as reasons, min(subject_id) as lowest_id,
    max(subject_id) as highest_id
  from changed
  group by bucket_of(subject_id), contact_point, method
) c
cross join next_revision
),
kept_back as materialized (
  select t.*
  from (-- Returns what a chunk is to write, and what the plan read: the {target} of batch/write_chunk.
select s.subject_id, t.contact_point, t.method, t.missing, s.place,
  coalesce(s.on_mask, t.on_mask) as on_mask, coalesce(s.off_mask, t.off_mask) as off_mask,
  coalesce(s.skip_if_chosen, t.first_skip) as skip_if_chosen, coalesce(s.mark_as_chosen, t.first_mark) as mark_as_chosen,
  coalesce(s.was_on, t.first_was_on) as was_on, coalesce(s.was_chosen, t.first_was_chosen) as was_chosen,
  0::bigint as changed
from (
  select *, coalesce(on_masks[1], 0) as on_mask, coalesce(off_masks[1], 0) as off_mask,
    coalesce(skip_if_chosen[1], 0) as first_skip, coalesce(mark_as_chosen[1], 0) as first_mark,
    was_on[1] as first_was_on, was_chosen[1] as first_was_chosen
  from batch_target
  where district_id = :district_id and batch_run_id = :target__batch_run_id and chunk = :target__chunk and not under_locks
  offset 0
) t
cross join lateral unnest(t.subject_ids, t.places, t.on_masks, t.off_masks, t.skip_if_chosen, t.mark_as_chosen,
    t.was_on, t.was_chosen)
  as s (subject_id, place, on_mask, off_mask, skip_if_chosen, mark_as_chosen, was_on, was_chosen)) t
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
  select contact_point, asked, flipped, overwrote, kept, skipped_as_chosen, sum(rows)::bigint as rows
  from counted
  group by grouping sets ((contact_point, asked), (contact_point, flipped), (contact_point, overwrote),
    (contact_point, kept), (contact_point, skipped_as_chosen))
) c on true;

update batch_cell cell
set updated = cell.updated + n.updated, unchanged = cell.unchanged + n.unchanged,
  overwrote_chosen = cell.overwrote_chosen + n.overwrote, kept_chosen = cell.kept_chosen + n.kept,
  left_alone = cell.left_alone + n.left_alone,
  people_affected = cell.people_affected + case when cell.contact_point <> 'HOUSEHOLD_PHONE' then n.updated else 0 end
from unnest(:contact_points::contact_point_kind[], :reasons::text[],
  :updated::bigint[], :unchanged::bigint[], :overwrote::bigint[], :kept::bigint[], :left::bigint[])
  as n (contact_point, reason, updated, unchanged, overwrote, kept, left_alone)
where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
  and cell.contact_point = n.contact_point and cell.reason = n.reason;

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
      from (-- Returns what a chunk is to write, and what the plan read: the {target} of batch/write_chunk.
select s.subject_id, t.contact_point, t.method, t.missing, s.place,
  coalesce(s.on_mask, t.on_mask) as on_mask, coalesce(s.off_mask, t.off_mask) as off_mask,
  coalesce(s.skip_if_chosen, t.first_skip) as skip_if_chosen, coalesce(s.mark_as_chosen, t.first_mark) as mark_as_chosen,
  coalesce(s.was_on, t.first_was_on) as was_on, coalesce(s.was_chosen, t.first_was_chosen) as was_chosen,
  0::bigint as changed
from (
  select *, coalesce(on_masks[1], 0) as on_mask, coalesce(off_masks[1], 0) as off_mask,
    coalesce(skip_if_chosen[1], 0) as first_skip, coalesce(mark_as_chosen[1], 0) as first_mark,
    was_on[1] as first_was_on, was_chosen[1] as first_was_chosen
  from batch_target
  where district_id = :district_id and batch_run_id = :target__batch_run_id and chunk = :target__chunk and not under_locks
  offset 0
) t
cross join lateral unnest(t.subject_ids, t.places, t.on_masks, t.off_masks, t.skip_if_chosen, t.mark_as_chosen,
    t.was_on, t.was_chosen)
  as s (subject_id, place, on_mask, off_mask, skip_if_chosen, mark_as_chosen, was_on, was_chosen)) t
    ) t
    order by subject_id, contact_point, method
  ) t
),
written as (
  update household_preference p
  set reasons_on = d.was_on # (d.turned_on | d.turned_off), reasons_chosen = (d.was_chosen | d.chosen) & ~d.unchosen
  from (
    select subject_id, contact_point, method, place, was_on, was_chosen, turned_on, turned_off, chosen, unchosen
    from decision
    where not missing and flipped | chosen <> 0
    offset 0
  ) d
  where p.ctid = d.place
    and (p.district_id, p.household_id, p.contact_point, p.method, p.reasons_on, p.reasons_chosen)
      is not distinct from (:district_id::integer, d.subject_id, d.contact_point, d.method, d.was_on, d.was_chosen)
  returning d.subject_id, d.contact_point, d.method, d.turned_on, d.turned_off, d.chosen, d.unchosen
),
others as materialized (
  select * from decision where missing or flipped | chosen = 0
),
added as (
  insert into household_preference (district_id, household_id, contact_point, method, reasons_on, reasons_chosen)
  select :district_id, d.subject_id, d.contact_point, d.method, d.turned_on, d.chosen
  from others d
  where d.flipped | d.chosen <> 0 and (select count(*) from written) >= 0
  on conflict do nothing
  returning household_id as subject_id, contact_point, method, reasons_on, reasons_chosen
),
as_asked as (
  select d.subject_id, d.contact_point, d.method
  from others d
  left join lateral (
    select p.reasons_on, p.reasons_chosen
    from household_preference p
    where p.district_id = :district_id and p.household_id = d.subject_id
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
insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids,
  turned_on, turned_off, chosen, unchosen, reasons, lowest_id, highest_id)
select :district_id, next_revision.revision, 'HOUSEHOLD', c.bucket, 'PREFERENCES', c.contact_point, c.method, c.subject_ids,
  c.turned_on, c.turned_off, c.chosen, c.unchosen, c.reasons, c.lowest_id, c.highest_id
from (
  select bucket_of(subject_id) as bucket, contact_point, method, array_agg(subject_id order by subject_id) as subject_ids,
    packed_masks(array_agg(turned_on order by subject_id), min(turned_on), max(turned_on)) as turned_on,
    packed_masks(array_agg(turned_off order by subject_id), min(turned_off), max(turned_off)) as turned_off,
    packed_masks(array_agg(chosen order by subject_id), min(chosen), max(chosen)) as chosen,
    packed_masks(array_agg(unchosen order by subject_id), min(unchosen), max(unchosen)) as unchosen,
    bit_or(turned_on | turned_off | chosen | unchosen) as reasons, min(subject_id) as lowest_id,
    max(subject_id) as highest_id
  from changed
  group by bucket_of(subject_id), contact_point, method
) c
cross join next_revision
),
kept_back as materialized (
  select t.*
  from (-- Returns what a chunk is to write, and what the plan read: the {target} of batch/write_chunk.
select s.subject_id, t.contact_point, t.method, t.missing, s.place,
  coalesce(s.on_mask, t.on_mask) as on_mask, coalesce(s.off_mask, t.off_mask) as off_mask,
  coalesce(s.skip_if_chosen, t.first_skip) as skip_if_chosen, coalesce(s.mark_as_chosen, t.first_mark) as mark_as_chosen,
  coalesce(s.was_on, t.first_was_on) as was_on, coalesce(s.was_chosen, t.first_was_chosen) as was_chosen,
  0::bigint as changed
from (
  select *, coalesce(on_masks[1], 0) as on_mask, coalesce(off_masks[1], 0) as off_mask,
    coalesce(skip_if_chosen[1], 0) as first_skip, coalesce(mark_as_chosen[1], 0) as first_mark,
    was_on[1] as first_was_on, was_chosen[1] as first_was_chosen
  from batch_target
  where district_id = :district_id and batch_run_id = :target__batch_run_id and chunk = :target__chunk and not under_locks
  offset 0
) t
cross join lateral unnest(t.subject_ids, t.places, t.on_masks, t.off_masks, t.skip_if_chosen, t.mark_as_chosen,
    t.was_on, t.was_chosen)
  as s (subject_id, place, on_mask, off_mask, skip_if_chosen, mark_as_chosen, was_on, was_chosen)) t
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
  select contact_point, asked, flipped, overwrote, kept, skipped_as_chosen, sum(rows)::bigint as rows
  from counted
  group by grouping sets ((contact_point, asked), (contact_point, flipped), (contact_point, overwrote),
    (contact_point, kept), (contact_point, skipped_as_chosen))
) c on true;

with member as materialized (
  select m.person_id, m.household_id, changed.reasons
  from (-- Returns the households that a revision changed, and the changed bits, from the log.
select subject_id as household_id, turned_on | turned_off as reasons
from subject_change
where district_id = :district_id and revision = :changed__revision and subject = 'HOUSEHOLD') changed
  cross join lateral (
    select h.person_id, h.household_id
    from household_member h
    where h.district_id = :district_id and h.household_id = changed.household_id
      and active_on(h.start_date, h.end_date, :today)
    offset 0
  ) m
),
elsewhere as (
  select member.person_id, m.household_id
  from member
  cross join lateral (
    select h.household_id
    from household_member h
    where h.district_id = :district_id and h.person_id = member.person_id and h.household_id <> member.household_id
      and active_on(h.start_date, h.end_date, :today)
    offset 0
  ) m
  where :revision::bigint is not null
),
changed_before as (
  select c.household_id, c.reasons
  from (select distinct bucket_of(household_id) as bucket from elsewhere) b
  cross join lateral (
    select c.subject_id as household_id, c.turned_on | c.turned_off as reasons
    from subject_change c
    where c.district_id = :district_id and c.subject = 'HOUSEHOLD' and c.bucket = b.bucket
      and c.kind = 'PREFERENCES' and c.revision < :revision
      and c.revision >= (
        select min(s.revision) from change_set s
        where s.district_id = :district_id and s.batch_run_id = :batch_run_id)
      and :batch_run_id = (
        select s.batch_run_id from change_set s where s.district_id = :district_id and s.revision = c.revision)
    offset 0
  ) c
),
counted_before as (
  select household_id, bit_or(reasons) as reasons, array_agg(person_id) filter (where person_id is not null) as people
  from (
    select household_id, person_id, 0::bigint as reasons from elsewhere
    union all
    select household_id, null, reasons from changed_before
  ) both_sides
  group by household_id
),
concerned as (
  select person_id, reasons, 0::bigint as before from member
  union all
  select p.person_id, 0, c.reasons
  from counted_before c
  cross join lateral unnest(c.people) as p (person_id)
  where c.reasons <> 0
),
fresh as (
  select person_id, bit_or(reasons) & ~bit_or(before) as reasons from concerned group by person_id
),
counted as (
  select reasons, count(*) as people from fresh group by reasons
),
by_reason as (
  select r.code as reason, sum(counted.people) as people
  from counted
  join contact_reason r on r.district_id = :district_id and counted.reasons & (1::bigint << r.bit) <> 0
  group by r.code
)
update batch_cell cell set people_affected = cell.people_affected + by_reason.people
from by_reason
where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
  and cell.contact_point = 'HOUSEHOLD_PHONE' and cell.reason = by_reason.reason;

