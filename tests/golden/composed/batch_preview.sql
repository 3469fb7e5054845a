select k.kind as contact_point
from unnest(:contact_points::contact_point_kind[]) as k (kind)
where not exists (
  select from (select people.person_id from (select e.person_id from enrollment e where e.district_id = :district_id and active_on(e.start_date, e.end_date, :today) and e.school_year = (select max(any_school.school_year) from enrollment any_school where any_school.district_id = :district_id and active_on(any_school.start_date, any_school.end_date, :today))) people offset 0) selected
  where case
    when k.kind = 'HOUSEHOLD_PHONE' then exists (
      select from household_member m
      join household h on h.district_id = :district_id and h.household_id = m.household_id and h.phone is not null
      where m.district_id = :district_id and m.person_id = selected.person_id
        and active_on(m.start_date, m.end_date, :today)
      offset 0)
    else exists (
      select from contact_point c
      where c.district_id = :district_id and c.person_id = selected.person_id and c.kind = k.kind
      offset 0)
    end
  offset 0);

insert into selected (person_id, student_id)
select people.person_id, people.student_id
from (select p.person_id, null::bigint as student_id from (select e.person_id from enrollment e where e.district_id = :district_id and active_on(e.start_date, e.end_date, :today) and e.school_year = (select max(any_school.school_year) from enrollment any_school where any_school.district_id = :district_id and active_on(any_school.start_date, any_school.end_date, :today))) p) people;

insert into population (person_id)
select distinct person_id from selected;

insert into all_channels (household, subject_id, contact_point, method, address, on_mask, off_mask, denied_by,
  denied_reasons, planned_reasons)
select c.*, ~c.denied_reasons
from (
  select c.*, (case when (c.address is null) then 1 end)::smallint as denied_by, 0::bigint as denied_reasons
  from (
    select true as household, h.household_id as subject_id, :contact_point::contact_point_kind as contact_point,
      :method::method as method, h.phone as address, :on_mask::bigint as on_mask, :off_mask::bigint as off_mask
    from household h
    where h.district_id = :district_id
      and h.household_id in (
        select m.household_id
        from household_member m
        join population s on s.person_id = m.person_id
        where m.district_id = :district_id
          and active_on(m.start_date, m.end_date, :today))
  ) c
  
) c;

insert into all_channels (household, subject_id, contact_point, method, address, on_mask, off_mask, denied_by,
  denied_reasons, planned_reasons)
select c.*, ~c.denied_reasons
from (
  select c.*, (case when (c.address is null) then 1 end)::smallint as denied_by, 0::bigint as denied_reasons
  from (
    select false as household, s.person_id as subject_id, :contact_point::contact_point_kind as contact_point,
      :method::method as method, p.value as address, :on_mask::bigint as on_mask, :off_mask::bigint as off_mask
    from (table population) s
    left join contact_point p
      on p.district_id = :district_id and p.person_id = s.person_id and p.kind = :contact_point
  ) c
  
) c;

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
update batch_forecast cell
set excluded = cell.excluded + by_cell.rows,
  excluded_since = cell.excluded_since + case when :since then by_cell.rows else 0 end
from by_cell
where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
  and cell.contact_point = by_cell.contact_point and cell.reason = by_cell.reason;

with block as materialized (
  select row_number() over () as block, household, contact_point, min(method) as method, on_mask, off_mask, skip_if_chosen,
    flipped, kept, array_agg(subject_id order by subject_id) as subject_ids, count(*) as rows
  from (-- Predicts what a run would do with each channel of {allowed}: {decided} is batch/decide over them.
select household, subject_id, contact_point, method, on_mask, off_mask,
  (on_mask | off_mask) & ~(differs & was_chosen) as skip_if_chosen, flipped, case when :predicted__people__keep_chosen then differs & was_chosen else 0 end as kept
from (-- Decides what a run does with channels, from their preferences as they were read. A bit that changes is not chosen any
select c.*, flipped & on_mask as turned_on, flipped & off_mask as turned_off,
  case when mark_as_chosen = 0 then 0
    else mark_as_chosen & ~was_chosen & ~leave & (flipped | ~(on_mask | off_mask)) end as chosen,
  flipped & was_chosen & ~mark_as_chosen as unchosen
from (
  select c.*, differs & ~(leave | case when :predicted__people__decided__keep_chosen then was_chosen else 0 end) as flipped
  from (
    select c.*, (skip_if_chosen & was_chosen & (differs | mark_as_chosen)) | changed as leave
    from (
      select c.*, (on_mask & ~was_on) | (off_mask & was_on) as differs from (-- Lists the channels of {allowed}, of people or of households, with anything to do, with the preferences as they are now,
select :predicted__people__decided__channel__household::boolean as household, place_of_subject / :predicted__people__decided__channel__size::integer as part,
  place_of_subject % :predicted__people__decided__channel__size::integer + 1 as position, subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen,
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
    where denied_by is null and household = :predicted__people__decided__channel__allowed__household and subject_id > :predicted__people__decided__channel__allowed__after::bigint and subject_id <= :predicted__people__decided__channel__allowed__upto::bigint
  ) c
  full join (
    select subject_id, contact_point, method, bit_or(on_reasons) as on_reasons, bit_or(off_reasons) as off_reasons
    from denial where household = :predicted__people__decided__channel__allowed__household and subject_id > :predicted__people__decided__channel__allowed__after and subject_id <= :predicted__people__decided__channel__allowed__upto
    group by subject_id, contact_point, method
  ) d using (subject_id, contact_point, method)
) left_over) a
  left join (-- Lists the preferences of a district's people or households for the contact points that a run names, by VOICE and EMAIL
select person_id as subject_id, contact_point, reasons_on, reasons_chosen, ctid as place
from preference
where district_id = :district_id and contact_point = any (:predicted__people__decided__channel__current__contact_points::contact_point_kind[]) and method <> 'TEXT'
  and person_id > :predicted__people__decided__channel__current__after::bigint and person_id <= :predicted__people__decided__channel__current__upto::bigint) p using (subject_id, contact_point)
  where a.on_mask | a.off_mask | a.mark_as_chosen <> 0 or a.on_mask is null -- null: no candidate
) a) c
    ) c
  ) c
) c) d union all -- Predicts what a run would do with each channel of {allowed}: {decided} is batch/decide over them.
select household, subject_id, contact_point, method, on_mask, off_mask,
  (on_mask | off_mask) & ~(differs & was_chosen) as skip_if_chosen, flipped, case when :predicted__households__keep_chosen then differs & was_chosen else 0 end as kept
from (-- Decides what a run does with channels, from their preferences as they were read. A bit that changes is not chosen any
select c.*, flipped & on_mask as turned_on, flipped & off_mask as turned_off,
  case when mark_as_chosen = 0 then 0
    else mark_as_chosen & ~was_chosen & ~leave & (flipped | ~(on_mask | off_mask)) end as chosen,
  flipped & was_chosen & ~mark_as_chosen as unchosen
from (
  select c.*, differs & ~(leave | case when :predicted__households__decided__keep_chosen then was_chosen else 0 end) as flipped
  from (
    select c.*, (skip_if_chosen & was_chosen & (differs | mark_as_chosen)) | changed as leave
    from (
      select c.*, (on_mask & ~was_on) | (off_mask & was_on) as differs from (-- Lists the channels of {allowed}, of people or of households, with anything to do, with the preferences as they are now,
select :predicted__households__decided__channel__household::boolean as household, place_of_subject / :predicted__households__decided__channel__size::integer as part,
  place_of_subject % :predicted__households__decided__channel__size::integer + 1 as position, subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen,
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
    where denied_by is null and household = :predicted__households__decided__channel__allowed__household and subject_id > :predicted__households__decided__channel__allowed__after::bigint and subject_id <= :predicted__households__decided__channel__allowed__upto::bigint
  ) c
  full join (
    select subject_id, contact_point, method, bit_or(on_reasons) as on_reasons, bit_or(off_reasons) as off_reasons
    from denial where household = :predicted__households__decided__channel__allowed__household and subject_id > :predicted__households__decided__channel__allowed__after and subject_id <= :predicted__households__decided__channel__allowed__upto
    group by subject_id, contact_point, method
  ) d using (subject_id, contact_point, method)
) left_over) a
  left join (-- Lists the preferences of a district's people or households for the contact points that a run names, by VOICE and EMAIL
select household_id as subject_id, contact_point, reasons_on, reasons_chosen, ctid as place
from household_preference
where district_id = :district_id and contact_point = any (:predicted__households__decided__channel__current__contact_points::contact_point_kind[]) and method <> 'TEXT'
  and household_id > :predicted__households__decided__channel__current__after::bigint and household_id <= :predicted__households__decided__channel__current__upto::bigint) p using (subject_id, contact_point)
  where a.on_mask | a.off_mask | a.mark_as_chosen <> 0 or a.on_mask is null -- null: no candidate
) a) c
    ) c
  ) c
) c) d) predicted
  group by household, contact_point, on_mask, off_mask, skip_if_chosen, flipped, kept
),
target as (
  insert into batch_target (district_id, batch_run_id, chunk, household, contact_point, method, bucket,
    changes, on_masks, off_masks, skip_if_chosen, subjects, channels, subject_ids)
  select :district_id, :batch_run_id, -block, household, contact_point, method, 0, flipped <> 0,
    array[on_mask], array[off_mask], array[skip_if_chosen], rows, rows, subject_ids
  from block where on_mask is not null
),
home as (
  insert into preview_household (household_id, reasons)
  select s.subject_id, flipped
  from block cross join lateral unnest(subject_ids) as s (subject_id)
  where household and flipped <> 0
),
picked as (
  select household, subject_id, row_number() over (order by hashint8(subject_id), household) as place
  from (
    select household, subject_ids[1 + n * rows / :samples] as subject_id
    from block cross join generate_series(0, :samples::integer - 1) as n
    where flipped <> 0
    group by 1, 2
    order by hashint8(subject_ids[1 + n * rows / :samples]), household
    limit :samples
  ) few
),
sample as (
  insert into batch_sample
    (district_id, batch_run_id, place, household, subject_id, contact_point, turned_on, turned_off)
  select :district_id, :batch_run_id, picked.place, picked.household, picked.subject_id, block.contact_point,
    block.flipped & block.on_mask, block.flipped & block.off_mask
  from block
  cross join lateral unnest(block.subject_ids) as s (subject_id)
  join picked on picked.household = block.household and picked.subject_id = s.subject_id
  where block.flipped <> 0
)
select contact_point, on_mask | off_mask as asked, flipped, flipped & ~skip_if_chosen as overwrote, kept,
  0::bigint as skipped_as_chosen, sum(rows)::bigint as rows,
  (
    select count(*)
    from (
      select distinct s.subject_id from block cross join lateral unnest(subject_ids) as s (subject_id) where not household
    ) people
  ) + (select coalesce(sum(rows), 0) from block where household)::bigint as total -- a household has one contact point
from block
group by 1, 2, 3, 4, 5;

update batch_forecast cell
set updated = cell.updated + n.updated, unchanged = cell.unchanged + n.unchanged,
  overwrote_chosen = cell.overwrote_chosen + n.overwrote, kept_chosen = cell.kept_chosen + n.kept,
  left_alone = cell.left_alone + n.left_alone,
  people_affected = cell.people_affected + case when cell.contact_point <> 'HOUSEHOLD_PHONE' then n.updated else 0 end
from unnest(:contact_points::contact_point_kind[], :reasons::text[],
  :updated::bigint[], :unchanged::bigint[], :overwrote::bigint[], :kept::bigint[], :left::bigint[])
  as n (contact_point, reason, updated, unchanged, overwrote, kept, left_alone)
where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
  and cell.contact_point = n.contact_point and cell.reason = n.reason;

with member as materialized (
  select m.person_id, m.household_id, changed.reasons
  from (-- Lists the households that a plan would change, and the reasons.
select household_id, reasons from preview_household) changed
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
update batch_forecast cell set people_affected = cell.people_affected + by_reason.people
from by_reason
where cell.district_id = :district_id and cell.batch_run_id = :batch_run_id
  and cell.contact_point = 'HOUSEHOLD_PHONE' and cell.reason = by_reason.reason;

