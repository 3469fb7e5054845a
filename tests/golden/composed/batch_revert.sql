with sorted as (
  select part, contact_point, method, bucket_of(subject_id) as bucket, position,
    coalesce(turned_on | turned_off | chosen | unchosen, 0) <> 0 as changes, subject_id, place, on_mask, off_mask,
    skip_if_chosen, mark_as_chosen, was_on, was_chosen, leave, turned_on, turned_off, chosen, unchosen
  from (-- Decides what a run does with channels, from their preferences as they were read. A bit that changes is not chosen any
select c.*, flipped & on_mask as turned_on, flipped & off_mask as turned_off,
  case when mark_as_chosen = 0 then 0
    else mark_as_chosen & ~was_chosen & ~leave & (flipped | ~(on_mask | off_mask)) end as chosen,
  flipped & was_chosen & ~mark_as_chosen as unchosen
from (
  select c.*, differs & ~(leave | case when :decided__keep_chosen then was_chosen else 0 end) as flipped
  from (
    select c.*, (skip_if_chosen & was_chosen & (differs | mark_as_chosen)) | changed as leave
    from (
      select c.*, (on_mask & ~was_on) | (off_mask & was_on) as differs from (-- Lists the channels of {allowed}, of people or of households, with anything to do, with the preferences as they are now,
select :decided__channel__household::boolean as household, place_of_subject / :decided__channel__size::integer as part,
  place_of_subject % :decided__channel__size::integer + 1 as position, subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen,
  mark_as_chosen, was_on, was_chosen, place, 0::bigint as changed
from (
  select subject_id, contact_point, a.method, a.on_mask, a.off_mask, a.skip_if_chosen, a.mark_as_chosen,
    coalesce(p.reasons_on, 0) as was_on, coalesce(p.reasons_chosen, 0) as was_chosen, p.place,
    dense_rank() over (order by subject_id) - 1 as place_of_subject
  from (-- Returns what a revert is to write to people, or to households: a bit that is not what it was is turned on or off again,
select u.subject_id, u.contact_point, u.method, u.on_before & u.differs as on_mask, u.off_before & u.differs as off_mask,
  u.differs & ~(u.chosen_before & ~u.choice_differs) as skip_if_chosen,
  u.chosen_before & (u.differs | (u.choice_differs & ~(coalesce(now.reasons_on, 0) # u.on_before))) as mark_as_chosen
from undone u
left join lateral (
  select p.reasons_on
  from preference p
  where u.chosen_before & u.choice_differs & ~u.differs <> 0
    and p.district_id = :district_id and p.person_id = u.subject_id
    and p.contact_point = u.contact_point and p.method = u.method
) now on true
where u.household = :decided__channel__allowed__household) a
  left join (-- Lists the preferences of a district's people or households for the contact points that a run names, by VOICE and EMAIL
select person_id as subject_id, contact_point, reasons_on, reasons_chosen, ctid as place
from preference
where district_id = :district_id and contact_point = any (:decided__channel__current__contact_points::contact_point_kind[]) and method <> 'TEXT'
  and person_id > :decided__channel__current__after::bigint and person_id <= :decided__channel__current__upto::bigint) p using (subject_id, contact_point)
  where a.on_mask | a.off_mask | a.mark_as_chosen <> 0 or a.on_mask is null -- null: no candidate
) a) c
    ) c
  ) c
) c) d
  order by part, contact_point, changes, bucket, subject_id
),
grouped as materialized (
  select part, contact_point, min(method) as method, changes, bucket, max(position) as last_position, count(*) as channels,
    bit_or(turned_on | turned_off | chosen | unchosen) as reasons,
    array_agg(subject_id) as subject_ids, array_agg(place) as places,
    packed_masks(array_agg(on_mask)) as on_masks, packed_masks(array_agg(off_mask)) as off_masks,
    packed_masks(array_agg(skip_if_chosen)) as skip_if_chosen, packed_masks(array_agg(mark_as_chosen)) as mark_as_chosen,
    coalesce(packed_masks(array_agg(was_on)), '{0}') as was_on,
    coalesce(packed_masks(array_agg(was_chosen)), '{0}') as was_chosen,
    packed_masks(array_agg(leave)) as leave,
    packed_masks(array_agg(turned_on)) as turned_on, packed_masks(array_agg(turned_off)) as turned_off,
    packed_masks(array_agg(chosen)) as chosen, packed_masks(array_agg(unchosen)) as unchosen,
    count(*) filter (where on_mask is null) as unknown
  from sorted
  group by part, contact_point, changes, bucket
),
target as (
  insert into batch_target (district_id, batch_run_id, chunk, household, contact_point, method, bucket, changes, state,
    subjects, channels, reasons, subject_ids, places, on_masks, off_masks, skip_if_chosen, mark_as_chosen, was_on,
    was_chosen, leave, turned_on, turned_off, chosen, unchosen)
  select :district_id, :batch_run_id, :chunks::integer + part + 1, :household, contact_point, method, bucket, changes,
    :state, max(last_position) over (partition by part),
    channels, coalesce(reasons, 0), subject_ids, places, on_masks, off_masks, skip_if_chosen, mark_as_chosen, was_on,
    was_chosen, leave, turned_on, turned_off, chosen, unchosen
  from grouped
  returning chunk, subjects
)
select (select coalesce(max(chunk), :chunks::integer) from target) as chunks,
  (select coalesce(sum(subjects), 0) from (select distinct chunk, subjects from target) chunks)::bigint as total,
  (select coalesce(sum(unknown), 0) from grouped)::bigint as unknown;

with sorted as (
  select part, contact_point, method, bucket_of(subject_id) as bucket, position,
    coalesce(turned_on | turned_off | chosen | unchosen, 0) <> 0 as changes, subject_id, place, on_mask, off_mask,
    skip_if_chosen, mark_as_chosen, was_on, was_chosen, leave, turned_on, turned_off, chosen, unchosen
  from (-- Decides what a run does with channels, from their preferences as they were read. A bit that changes is not chosen any
select c.*, flipped & on_mask as turned_on, flipped & off_mask as turned_off,
  case when mark_as_chosen = 0 then 0
    else mark_as_chosen & ~was_chosen & ~leave & (flipped | ~(on_mask | off_mask)) end as chosen,
  flipped & was_chosen & ~mark_as_chosen as unchosen
from (
  select c.*, differs & ~(leave | case when :decided__keep_chosen then was_chosen else 0 end) as flipped
  from (
    select c.*, (skip_if_chosen & was_chosen & (differs | mark_as_chosen)) | changed as leave
    from (
      select c.*, (on_mask & ~was_on) | (off_mask & was_on) as differs from (-- Lists the channels of {allowed}, of people or of households, with anything to do, with the preferences as they are now,
select :decided__channel__household::boolean as household, place_of_subject / :decided__channel__size::integer as part,
  place_of_subject % :decided__channel__size::integer + 1 as position, subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen,
  mark_as_chosen, was_on, was_chosen, place, 0::bigint as changed
from (
  select subject_id, contact_point, a.method, a.on_mask, a.off_mask, a.skip_if_chosen, a.mark_as_chosen,
    coalesce(p.reasons_on, 0) as was_on, coalesce(p.reasons_chosen, 0) as was_chosen, p.place,
    dense_rank() over (order by subject_id) - 1 as place_of_subject
  from (-- Returns what a revert is to write to people, or to households: a bit that is not what it was is turned on or off again,
select u.subject_id, u.contact_point, u.method, u.on_before & u.differs as on_mask, u.off_before & u.differs as off_mask,
  u.differs & ~(u.chosen_before & ~u.choice_differs) as skip_if_chosen,
  u.chosen_before & (u.differs | (u.choice_differs & ~(coalesce(now.reasons_on, 0) # u.on_before))) as mark_as_chosen
from undone u
left join lateral (
  select p.reasons_on
  from household_preference p
  where u.chosen_before & u.choice_differs & ~u.differs <> 0
    and p.district_id = :district_id and p.household_id = u.subject_id
    and p.contact_point = u.contact_point and p.method = u.method
) now on true
where u.household = :decided__channel__allowed__household) a
  left join (-- Lists the preferences of a district's people or households for the contact points that a run names, by VOICE and EMAIL
select household_id as subject_id, contact_point, reasons_on, reasons_chosen, ctid as place
from household_preference
where district_id = :district_id and contact_point = any (:decided__channel__current__contact_points::contact_point_kind[]) and method <> 'TEXT'
  and household_id > :decided__channel__current__after::bigint and household_id <= :decided__channel__current__upto::bigint) p using (subject_id, contact_point)
  where a.on_mask | a.off_mask | a.mark_as_chosen <> 0 or a.on_mask is null -- null: no candidate
) a) c
    ) c
  ) c
) c) d
  order by part, contact_point, changes, bucket, subject_id
),
grouped as materialized (
  select part, contact_point, min(method) as method, changes, bucket, max(position) as last_position, count(*) as channels,
    bit_or(turned_on | turned_off | chosen | unchosen) as reasons,
    array_agg(subject_id) as subject_ids, array_agg(place) as places,
    packed_masks(array_agg(on_mask)) as on_masks, packed_masks(array_agg(off_mask)) as off_masks,
    packed_masks(array_agg(skip_if_chosen)) as skip_if_chosen, packed_masks(array_agg(mark_as_chosen)) as mark_as_chosen,
    coalesce(packed_masks(array_agg(was_on)), '{0}') as was_on,
    coalesce(packed_masks(array_agg(was_chosen)), '{0}') as was_chosen,
    packed_masks(array_agg(leave)) as leave,
    packed_masks(array_agg(turned_on)) as turned_on, packed_masks(array_agg(turned_off)) as turned_off,
    packed_masks(array_agg(chosen)) as chosen, packed_masks(array_agg(unchosen)) as unchosen,
    count(*) filter (where on_mask is null) as unknown
  from sorted
  group by part, contact_point, changes, bucket
),
target as (
  insert into batch_target (district_id, batch_run_id, chunk, household, contact_point, method, bucket, changes, state,
    subjects, channels, reasons, subject_ids, places, on_masks, off_masks, skip_if_chosen, mark_as_chosen, was_on,
    was_chosen, leave, turned_on, turned_off, chosen, unchosen)
  select :district_id, :batch_run_id, :chunks::integer + part + 1, :household, contact_point, method, bucket, changes,
    :state, max(last_position) over (partition by part),
    channels, coalesce(reasons, 0), subject_ids, places, on_masks, off_masks, skip_if_chosen, mark_as_chosen, was_on,
    was_chosen, leave, turned_on, turned_off, chosen, unchosen
  from grouped
  returning chunk, subjects
)
select (select coalesce(max(chunk), :chunks::integer) from target) as chunks,
  (select coalesce(sum(subjects), 0) from (select distinct chunk, subjects from target) chunks)::bigint as total,
  (select coalesce(sum(unknown), 0) from grouped)::bigint as unknown;

with target as materialized (
  select *, on_masks[1] as on_mask, off_masks[1] as off_mask, skip_if_chosen[1] as skip, mark_as_chosen[1] as mark,
    was_on[1] as first_was_on, was_chosen[1] as first_was_chosen, leave[1] as first_leave, turned_on[1] as first_turned_on,
    turned_off[1] as first_turned_off, chosen[1] as first_chosen, unchosen[1] as first_unchosen,
    1 >= greatest(cardinality(on_masks), cardinality(off_masks), cardinality(mark_as_chosen), cardinality(was_on),
      cardinality(was_chosen), cardinality(leave), cardinality(turned_on), cardinality(turned_off)) as alike
  from batch_target
  where district_id = :district_id and batch_run_id = :batch_run_id and chunk = :chunk and state = :state
),
written as (
  update preference p
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
    and (p.district_id, p.person_id, p.contact_point, p.method, p.reasons_on, p.reasons_chosen)
      is not distinct from (:district_id::integer, w.subject_id, w.contact_point, w.method, w.was_on, w.was_chosen)
  returning w.subject_id, w.contact_point
),
updated as materialized (
  select count(*) as rows from written
),
added as (
  insert into preference (district_id, person_id, contact_point, method, reasons_on, reasons_chosen)
  select :district_id, s.subject_id, t.contact_point, t.method, coalesce(s.turned_on, t.first_turned_on, 0),
    coalesce(s.chosen, t.first_chosen, 0)
  from target t
  cross join lateral unnest(t.subject_ids, t.places, t.turned_on, t.chosen) as s (subject_id, place, turned_on, chosen)
  where t.changes and array_position(t.places, null) is not null and s.place is null and (select rows from updated) >= 0
  order by s.subject_id, t.contact_point
  on conflict do nothing
  returning person_id as subject_id, contact_point
),
as_asked as (
  select s.subject_id, t.contact_point
  from target t
  cross join lateral unnest(t.subject_ids, t.was_on, t.was_chosen) as s (subject_id, was_on, was_chosen)
  left join lateral (
    select p.reasons_on, p.reasons_chosen
    from preference p
    where p.district_id = :district_id and p.person_id = s.subject_id
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
  select :district_id, n.revision, 'PERSON', t.bucket, 'PREFERENCES', t.contact_point, t.method, t.subject_ids, t.turned_on,
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
insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids,
  turned_on, turned_off, chosen, unchosen, reasons, lowest_id, highest_id)
select :district_id, next_revision.revision, 'PERSON', c.bucket, 'PREFERENCES', c.contact_point, c.method, c.subject_ids,
  c.turned_on, c.turned_off, c.chosen, c.unchosen, c.reasons, c.lowest_id, c.highest_id
from (
  select bucket_of(subject_id) as bucket, contact_point, method, array_agg(subject_id order by subject_id) as subject_ids,
    packed_masks(array_agg(turned_on order by subject_id)) as turned_on,
    packed_masks(array_agg(turned_off order by subject_id)) as turned_off,
    packed_masks(array_agg(chosen order by subject_id)) as chosen,
    packed_masks(array_agg(unchosen order by subject_id)) as unchosen,
    bit_or(turned_on | turned_off | chosen | unchosen) as reasons, min(subject_id) as lowest_id,
    max(subject_id) as highest_id
  from changed
  group by bucket_of(subject_id), contact_point, method
) c
cross join next_revision
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

with target as materialized (
  select *, on_masks[1] as on_mask, off_masks[1] as off_mask, skip_if_chosen[1] as skip, mark_as_chosen[1] as mark,
    was_on[1] as first_was_on, was_chosen[1] as first_was_chosen, leave[1] as first_leave, turned_on[1] as first_turned_on,
    turned_off[1] as first_turned_off, chosen[1] as first_chosen, unchosen[1] as first_unchosen,
    1 >= greatest(cardinality(on_masks), cardinality(off_masks), cardinality(mark_as_chosen), cardinality(was_on),
      cardinality(was_chosen), cardinality(leave), cardinality(turned_on), cardinality(turned_off)) as alike
  from batch_target
  where district_id = :district_id and batch_run_id = :batch_run_id and chunk = :chunk and state = :state
),
written as (
  update household_preference p
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
    and (p.district_id, p.household_id, p.contact_point, p.method, p.reasons_on, p.reasons_chosen)
      is not distinct from (:district_id::integer, w.subject_id, w.contact_point, w.method, w.was_on, w.was_chosen)
  returning w.subject_id, w.contact_point
),
updated as materialized (
  select count(*) as rows from written
),
added as (
  insert into household_preference (district_id, household_id, contact_point, method, reasons_on, reasons_chosen)
  select :district_id, s.subject_id, t.contact_point, t.method, coalesce(s.turned_on, t.first_turned_on, 0),
    coalesce(s.chosen, t.first_chosen, 0)
  from target t
  cross join lateral unnest(t.subject_ids, t.places, t.turned_on, t.chosen) as s (subject_id, place, turned_on, chosen)
  where t.changes and array_position(t.places, null) is not null and s.place is null and (select rows from updated) >= 0
  order by s.subject_id, t.contact_point
  on conflict do nothing
  returning household_id as subject_id, contact_point
),
as_asked as (
  select s.subject_id, t.contact_point
  from target t
  cross join lateral unnest(t.subject_ids, t.was_on, t.was_chosen) as s (subject_id, was_on, was_chosen)
  left join lateral (
    select p.reasons_on, p.reasons_chosen
    from household_preference p
    where p.district_id = :district_id and p.household_id = s.subject_id
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
  select :district_id, n.revision, 'HOUSEHOLD', t.bucket, 'PREFERENCES', t.contact_point, t.method, t.subject_ids, t.turned_on,
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
insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids,
  turned_on, turned_off, chosen, unchosen, reasons, lowest_id, highest_id)
select :district_id, next_revision.revision, 'HOUSEHOLD', c.bucket, 'PREFERENCES', c.contact_point, c.method, c.subject_ids,
  c.turned_on, c.turned_off, c.chosen, c.unchosen, c.reasons, c.lowest_id, c.highest_id
from (
  select bucket_of(subject_id) as bucket, contact_point, method, array_agg(subject_id order by subject_id) as subject_ids,
    packed_masks(array_agg(turned_on order by subject_id)) as turned_on,
    packed_masks(array_agg(turned_off order by subject_id)) as turned_off,
    packed_masks(array_agg(chosen order by subject_id)) as chosen,
    packed_masks(array_agg(unchosen order by subject_id)) as unchosen,
    bit_or(turned_on | turned_off | chosen | unchosen) as reasons, min(subject_id) as lowest_id,
    max(subject_id) as highest_id
  from changed
  group by bucket_of(subject_id), contact_point, method
) c
cross join next_revision
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

