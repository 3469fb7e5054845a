insert into all_channels (household, subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen,
  address)
select u.household, u.subject_id, u.contact_point, u.method, u.on_before & u.differs, u.off_before & u.differs,
  u.differs & ~(u.chosen_before & ~u.choice_differs),
  u.chosen_before & (u.differs | (u.choice_differs & ~(coalesce(now.reasons_on, 0) # u.on_before))),
  case
    when u.on_before & u.differs = 0 then null -- rules are asked about what is turned on
    when u.household then (
      select h.phone from household h where h.district_id = :district_id and h.household_id = u.subject_id)
    else (
      select c.value from contact_point c
      where c.district_id = :district_id and c.person_id = u.subject_id and c.kind = u.contact_point)
  end
from undone u
left join lateral (
  select p.reasons_on
  from preference p
  where u.chosen_before & u.choice_differs & ~u.differs <> 0
    and p.district_id = :district_id and p.person_id = u.subject_id
    and p.contact_point = u.contact_point and p.method = u.method
) now on true
where u.household = :household;

insert into all_channels (household, subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen,
  address)
select u.household, u.subject_id, u.contact_point, u.method, u.on_before & u.differs, u.off_before & u.differs,
  u.differs & ~(u.chosen_before & ~u.choice_differs),
  u.chosen_before & (u.differs | (u.choice_differs & ~(coalesce(now.reasons_on, 0) # u.on_before))),
  case
    when u.on_before & u.differs = 0 then null -- rules are asked about what is turned on
    when u.household then (
      select h.phone from household h where h.district_id = :district_id and h.household_id = u.subject_id)
    else (
      select c.value from contact_point c
      where c.district_id = :district_id and c.person_id = u.subject_id and c.kind = u.contact_point)
  end
from undone u
left join lateral (
  select p.reasons_on
  from household_preference p
  where u.chosen_before & u.choice_differs & ~u.differs <> 0
    and p.district_id = :district_id and p.household_id = u.subject_id
    and p.contact_point = u.contact_point and p.method = u.method
) now on true
where u.household = :household;

insert into denial (rule_no, household, subject_id, contact_point, method, on_reasons, off_reasons)
select :denials__rule_2__rule_no::smallint as rule_no, d.household, d.subject_id, d.contact_point, d.method,
  bit_or(coalesce(d.reasons, -1)) & :denials__rule_2__on_bits::bigint as on_reasons,
  bit_or(coalesce(d.reasons, -1)) & :denials__rule_2__off_bits::bigint as off_reasons
from (
with marked as materialized (
select distinct r.contact_id as person_id, r.student_id
from relationship r
where r.district_id = :district_id and r.no_contact and active_on(r.start_date, r.end_date, :today)), kept_apart as materialized (
select m.person_id, m.student_id
from marked m
where coalesce((
  select bool_and(r.no_contact)
  from relationship r
  where r.district_id = :district_id and r.contact_id = m.person_id and r.student_id = m.student_id
    and r.messenger and active_on(r.start_date, r.end_date, :today)), true)),
excluded as materialized (
select s.person_id
from selected s
where s.person_id in (select person_id from kept_apart)
group by s.person_id
having bool_and(coalesce((s.person_id, s.student_id) in (select person_id, student_id from kept_apart), false)))
select c.household, c.subject_id, c.contact_point, c.method, -1::bigint as reasons
from candidate c
where exists (select from selected where student_id is not null)
  and (not c.household and c.subject_id in (select person_id from excluded)
    or c.household and c.subject_id in (
select m.household_id
from household_member m
where m.district_id = :district_id and active_on(m.start_date, m.end_date, :today)
  and m.household_id in (
    select own.household_id from household_member own
    join excluded using (person_id)
    where own.district_id = :district_id and active_on(own.start_date, own.end_date, :today))
group by m.household_id
having bool_and(
  m.person_id in (select person_id from excluded) or m.person_id not in (select person_id from selected))))) d
group by d.household, d.subject_id, d.contact_point, d.method
union all
select :denials__rule_3__rule_no::smallint as rule_no, d.household, d.subject_id, d.contact_point, d.method,
  bit_or(coalesce(d.reasons, -1)) & :denials__rule_3__on_bits::bigint as on_reasons,
  bit_or(coalesce(d.reasons, -1)) & :denials__rule_3__off_bits::bigint as off_reasons
from (select c.household, c.subject_id, c.contact_point, c.method, coalesce(o.reasons, -1) as reasons from candidate c join opt_out o on o.address = c.address and o.method = c.method where o.district_id = :district_id and o.lifted_at is null) d
group by d.household, d.subject_id, d.contact_point, d.method;

with before_early as ( -- what rules before an early one deny of its reasons
  select d.household, d.subject_id, d.contact_point, d.method, bit_or(d.on_reasons & e.reasons) as on_reasons,
    bit_or(d.off_reasons & e.reasons) as off_reasons
  from early_rule e
  join denial d on d.rule_no < e.rule_no
  group by d.household, d.subject_id, d.contact_point, d.method
),
denied_when_found as (
  select denied_by, household, contact_point, reasons, bucket_of(subject_id) as bucket, array_agg(subject_id) as subject_ids
  from (
    select c.denied_by, c.household, c.subject_id, c.contact_point,
      case
        when c.denied_by is not null then (c.on_mask | c.off_mask) & (c.planned_reasons | c.denied_reasons)
        else c.denied_reasons & ~coalesce((d.on_reasons & c.on_mask) | (d.off_reasons & c.off_mask), 0)
      end as reasons
    from all_channels c
    left join before_early d using (household, subject_id, contact_point, method)
    where c.denied_by is not null or c.denied_reasons <> 0
  ) c
  where reasons <> 0
  group by denied_by, household, contact_point, reasons, bucket
),
block as (
  insert into batch_exclusion_block
    (district_id, batch_run_id, rule_no, household, contact_point, reasons, code, because, remedy, subject_ids, block)
  select :district_id, :batch_run_id, rule_no, household, contact_point, reasons, code, because, remedy,
    subject_ids,
    coalesce((
      select max(b.block) from batch_exclusion_block b
      where b.district_id = :district_id and b.batch_run_id = :batch_run_id), 0)
    + row_number() over (order by rule_no, household, bucket, contact_point, reasons, code, because, remedy)
  from (
    select coalesce(c.denied_by, e.rule_no) as rule_no, c.household, c.contact_point,
      c.reasons & coalesce(e.reasons, -1) as reasons, null as code, null as because, null as remedy, c.bucket, c.subject_ids
    from denied_when_found c
    left join early_rule e on c.denied_by is null and c.reasons & e.reasons <> 0
    union all
    select rule_no, household, contact_point, reasons, code, because, remedy, bucket_of(subject_id), array_agg(subject_id)
    from (-- Lists who denies which reasons of the candidates: each reason by the first rule that denies it, in the order of the
select rule_no, household, subject_id, contact_point, method, reasons & ~coalesce(earlier, 0) as reasons, code,
  because, remedy
from (
  select d.*, bit_or(d.reasons) over (
    partition by d.household, d.subject_id, d.contact_point, d.method
    order by d.rule_no rows between unbounded preceding and 1 preceding) as earlier
  from (
    select d.rule_no, household, subject_id, contact_point, method,
      ((d.on_reasons & c.on_mask) | (d.off_reasons & c.off_mask))
        & case
          when c.denied_reasons = 0 then c.planned_reasons
          else c.planned_reasons | (c.denied_reasons & coalesce(
            (select bit_or(e.reasons) from early_rule e where e.rule_no > d.rule_no), 0))
        end as reasons,
      d.code, d.because, d.remedy
    from denial d
    join all_channels c using (household, subject_id, contact_point, method)
    where c.denied_by is null
  ) d
) d
where reasons & ~coalesce(earlier, 0) <> 0) first
    group by rule_no, household, contact_point, reasons, code, because, remedy, bucket_of(subject_id)
  ) excluded
  returning contact_point, reasons, cardinality(subject_ids) as rows
),
by_cell as (
  select block.contact_point, r.code as reason, sum(block.rows) as rows
  from block
  join contact_reason r on r.district_id = :district_id and block.reasons & (1::bigint << r.bit) <> 0
  group by block.contact_point, r.code
)
update batch_cell cell
set excluded = cell.excluded + by_cell.rows,
  excluded_since = cell.excluded_since + case when :since then by_cell.rows else 0 end
from by_cell
where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
  and cell.contact_point = by_cell.contact_point and cell.reason = by_cell.reason;

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
  from (-- Lists the candidates with what the rules leave of the reasons to turn on and off. Null masks mark a denial of what is
select subject_id, contact_point, method, on_mask, off_mask,
  coalesce(skip_if_chosen & (on_mask | off_mask), 0) as skip_if_chosen, coalesce(mark_as_chosen, 0) as mark_as_chosen
from (
  select subject_id, contact_point, method, c.skip_if_chosen,
    c.mark_as_chosen & ~coalesce(d.on_reasons & c.on_mask, 0) as mark_as_chosen,
    c.on_mask & c.planned_reasons & ~coalesce(d.on_reasons, 0) as on_mask,
    c.off_mask & c.planned_reasons & ~coalesce(d.off_reasons, 0) as off_mask
  from (
    select * from all_channels
    where denied_by is null and household = :decided__channel__allowed__household and subject_id > :decided__channel__allowed__after::bigint and subject_id <= :decided__channel__allowed__upto::bigint
  ) c
  full join (
    select subject_id, contact_point, method, bit_or(on_reasons) as on_reasons, bit_or(off_reasons) as off_reasons
    from denial where household = :decided__channel__allowed__household and subject_id > :decided__channel__allowed__after and subject_id <= :decided__channel__allowed__upto
    group by subject_id, contact_point, method
  ) d using (subject_id, contact_point, method)
) left_over) a
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
  from (-- Lists the candidates with what the rules leave of the reasons to turn on and off. Null masks mark a denial of what is
select subject_id, contact_point, method, on_mask, off_mask,
  coalesce(skip_if_chosen & (on_mask | off_mask), 0) as skip_if_chosen, coalesce(mark_as_chosen, 0) as mark_as_chosen
from (
  select subject_id, contact_point, method, c.skip_if_chosen,
    c.mark_as_chosen & ~coalesce(d.on_reasons & c.on_mask, 0) as mark_as_chosen,
    c.on_mask & c.planned_reasons & ~coalesce(d.on_reasons, 0) as on_mask,
    c.off_mask & c.planned_reasons & ~coalesce(d.off_reasons, 0) as off_mask
  from (
    select * from all_channels
    where denied_by is null and household = :decided__channel__allowed__household and subject_id > :decided__channel__allowed__after::bigint and subject_id <= :decided__channel__allowed__upto::bigint
  ) c
  full join (
    select subject_id, contact_point, method, bit_or(on_reasons) as on_reasons, bit_or(off_reasons) as off_reasons
    from denial where household = :decided__channel__allowed__household and subject_id > :decided__channel__allowed__after and subject_id <= :decided__channel__allowed__upto
    group by subject_id, contact_point, method
  ) d using (subject_id, contact_point, method)
) left_over) a
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

