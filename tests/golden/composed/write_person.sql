with target as materialized (
select cell.subject_id, cell.contact_point, cell.method, cell.on_mask, cell.off_mask
from (
select o.person_id as subject_id, c.contact_point, c.method, c.on_mask, c.off_mask
from person o
cross join unnest(
  (select :target__cells__contact_points::contact_point_kind[]), (select :target__cells__methods::method[]),
  (select :target__cells__on_masks::bigint[]), (select :target__cells__off_masks::bigint[])) as c (contact_point, method, on_mask, off_mask)
where o.district_id = :district_id and o.person_id = :target__cells__subject_id
) cell
where not exists (
  select from (
with all_channels as materialized (
  select c.*, null::smallint as denied_by
  from (
select :target__page_denials__page__household::boolean as household, :target__page_denials__page__subject_id::bigint as subject_id, c.contact_point, c.method, a.address,
  c.on_mask, c.off_mask
from unnest(
  (select :target__page_denials__page__contact_points::contact_point_kind[]), (select :target__page_denials__page__methods::method[]),
  (select :target__page_denials__page__on_masks::bigint[]), (select :target__page_denials__page__off_masks::bigint[])) as c (contact_point, method, on_mask, off_mask)
left join (
select c.kind as contact_point, c.value as address
from person p
left join contact_point c on c.district_id = p.district_id and c.person_id = p.person_id
where p.district_id = :district_id and p.person_id = :target__page_denials__page__addresses__subject_id
) a on a.contact_point = c.contact_point
  ) c
),
candidate as (
  select household, subject_id, contact_point, method, address, on_mask, off_mask
  from all_channels where denied_by is null
),
selected as (
  select null::bigint as person_id, null::bigint as student_id where false
),
denial as (
select :target__page_denials__denials__rule_1__rule_no::smallint as rule_no, d.household, d.subject_id, d.contact_point, d.method,
  bit_or(coalesce(d.reasons, -1)) & :target__page_denials__denials__rule_1__on_bits::bigint as on_reasons,
  bit_or(coalesce(d.reasons, -1)) & :target__page_denials__denials__rule_1__off_bits::bigint as off_reasons
from (select c.household, c.subject_id, c.contact_point, c.method, coalesce(o.reasons, -1) as reasons from candidate c join opt_out o on o.address = c.address and o.method = c.method where o.district_id = :district_id and o.lifted_at is null) d
group by d.household, d.subject_id, d.contact_point, d.method
)
select d.rule_no, false as whole, d.household, d.subject_id, d.contact_point, d.method,
  (d.on_reasons & c.on_mask) | (d.off_reasons & c.off_mask) as reasons
from denial d
left join candidate c using (household, subject_id, contact_point, method)
union all
select denied_by, true, household, subject_id, contact_point, method, on_mask | off_mask
from all_channels where denied_by is not null
  ) denied
  where denied.reasons is distinct from 0)
),
locked as materialized (
  select t.*, existing.reasons_on is not null as found, coalesce(existing.reasons_on, 0) as reasons_on,
    coalesce(existing.reasons_chosen, 0) as reasons_chosen
  from (select * from target order by subject_id, contact_point, method) t
  left join lateral (
    select p.reasons_on, p.reasons_chosen
    from preference p
    where p.district_id = :district_id and p.person_id = t.subject_id
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
  update preference p
  set reasons_on = p.reasons_on # d.flipped, reasons_chosen = (p.reasons_chosen | d.chosen) & ~d.unchosen
  from decision d
  where p.district_id = :district_id and p.person_id = d.subject_id
    and p.contact_point = d.contact_point and p.method = d.method
    and d.found and d.flipped | d.chosen <> 0
  returning d.subject_id, d.contact_point, d.method, d.turned_on, d.turned_off, d.chosen, d.unchosen
),
added as (
  insert into preference (district_id, person_id, contact_point, method, reasons_on, reasons_chosen)
  select :district_id, d.subject_id, d.contact_point, d.method, d.turned_on, d.chosen
  from decision d
  where not d.found and d.flipped | d.chosen <> 0 and (select count(*) from written) >= 0
  order by d.subject_id, d.contact_point, d.method
  returning person_id as subject_id, contact_point, method, reasons_on, reasons_chosen
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
)
select d.contact_point, d.asked, d.flipped, d.overwrote, 0::bigint as kept, 0::bigint as skipped_as_chosen,
  count(*) as rows, (select revision from next_revision) as revision
from decision d
group by d.contact_point, d.asked, d.flipped, d.overwrote;

select exists (
  select from change
  where district_id = :district_id and subject = 'PERSON' and bucket = bucket_of(:subject_id)
    and revision > :since and revision < coalesce(:mine::bigint, 9223372036854775807)
    and lowest_id <= :subject_id and highest_id >= :subject_id and subject_ids[place_of(subject_ids, :subject_id)] = :subject_id
) as changed;

