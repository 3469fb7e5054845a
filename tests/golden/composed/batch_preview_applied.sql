insert into selected (person_id, student_id)
select people.person_id, people.student_id
from (select p.person_id, null::bigint as student_id from (select e.person_id from enrollment e where e.district_id = :district_id and active_on(e.start_date, e.end_date, :today) and e.school_year = (select max(any_school.school_year) from enrollment any_school where any_school.district_id = :district_id and active_on(any_school.start_date, any_school.end_date, :today))) p) people;

insert into population (person_id)
select distinct person_id from selected;

insert into all_channels (household, subject_id, contact_point, method, address, on_mask, off_mask, denied_by,
  denied_reasons, planned_reasons)
select c.*, ~c.denied_reasons
from (
  select c.*, (case when (c.address is null) then 4 end)::smallint as denied_by, 0::bigint as denied_reasons
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
  select c.*, (case when (c.address is null) then 4 end)::smallint as denied_by, 0::bigint as denied_reasons
  from (
    select false as household, s.person_id as subject_id, :contact_point::contact_point_kind as contact_point,
      :method::method as method, p.value as address, :on_mask::bigint as on_mask, :off_mask::bigint as off_mask
    from (table population) s
    left join contact_point p
      on p.district_id = :district_id and p.person_id = s.person_id and p.kind = :contact_point
  ) c
  
) c;

insert into denial (rule_no, household, subject_id, contact_point, method, on_reasons, off_reasons)
select :denials__rule_5__rule_no::smallint as rule_no, d.household, d.subject_id, d.contact_point, d.method,
  bit_or(coalesce(d.reasons, -1)) & :denials__rule_5__on_bits::bigint as on_reasons,
  bit_or(coalesce(d.reasons, -1)) & :denials__rule_5__off_bits::bigint as off_reasons
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
select :denials__rule_6__rule_no::smallint as rule_no, d.household, d.subject_id, d.contact_point, d.method,
  bit_or(coalesce(d.reasons, -1)) & :denials__rule_6__on_bits::bigint as on_reasons,
  bit_or(coalesce(d.reasons, -1)) & :denials__rule_6__off_bits::bigint as off_reasons
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

with numbered as (
  select a.household, subject_id, contact_point, a.method, a.on_mask, a.off_mask, a.skip_if_chosen, a.mark_as_chosen,
    p.reasons_on as was_on, p.reasons_chosen as was_chosen, p.place,
    dense_rank() over (partition by a.household order by subject_id) - 1 as position
  from (-- Lists the candidates with what the rules leave of the reasons to turn on and off. Null masks mark a denial of what is
select household, subject_id, contact_point, method, on_mask, off_mask,
  coalesce(skip_if_chosen & (on_mask | off_mask), 0) as skip_if_chosen, 0::bigint as mark_as_chosen
from (
  select household, subject_id, contact_point, method, c.skip_if_chosen,
    c.on_mask & c.planned_reasons & ~coalesce(d.on_reasons, 0) as on_mask,
    c.off_mask & c.planned_reasons & ~coalesce(d.off_reasons, 0) as off_mask
  from (
    select * from all_channels where denied_by is null and subject_id > :allowed__after::bigint and subject_id <= :allowed__upto::bigint
  ) c
  full join (
    select household, subject_id, contact_point, method, bit_or(on_reasons) as on_reasons,
      bit_or(off_reasons) as off_reasons
    from denial where subject_id > :allowed__after and subject_id <= :allowed__upto
    group by household, subject_id, contact_point, method
  ) d using (household, subject_id, contact_point, method)
) left_over) a
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

