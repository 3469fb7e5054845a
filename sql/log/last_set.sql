-- Returns which change set set each preference of one person or household last (D28): for a settings screen, all
-- channels at once. :sought holds a mask for each channel, in the order of channel_no. {kind} is 'PERSON' or
-- 'HOUSEHOLD'. A preference that no change set has set is in no row.
--
-- The walk goes through the changes of the bucket from the newest to the oldest, each step to the next one that set
-- something of what is still sought, and ends when nothing is sought any more. What is cheap to see comes first: the
-- ids of a row, then the bits that it holds for anybody, and only then the place of the one person in it. `offset 0` keeps
-- this order, and the change sets from being read as a whole.
-- Parameters: district_id, subject_id, sought
-- Columns: revision, at, source, actor, batch_run_id, contact_point, method, reasons
with recursive walk as (
  select 9223372036854775807 as revision, null::contact_point_kind as contact_point, null::method as method,
    0 as channel, 0::bigint as reasons, :sought::bigint[] as sought
  union all
  select step.revision, step.contact_point, step.method, step.channel, step.reasons,
    array(
      select s.mask & ~case s.channel when step.channel then step.reasons else 0 end
      from unnest(walk.sought) with ordinality as s (mask, channel)
      order by s.channel)
  from walk
  cross join lateral (
    select c.revision, c.contact_point, c.method, channel.no as channel, one.set & walk.sought[channel.no] as reasons
    from change c
    cross join lateral (select channel_no(c.contact_point, c.method) as no) channel
    cross join lateral (select place_of(c.subject_ids, :subject_id) as place offset 0) found
    cross join lateral (
      select mask_at(c.turned_on, found.place) | mask_at(c.turned_off, found.place)
        | mask_at(c.chosen, found.place) | mask_at(c.unchosen, found.place) as set
      where found.place is not null
      offset 0
    ) one
    where c.district_id = :district_id and c.subject = {kind} and c.bucket = bucket_of(:subject_id)
      and c.lowest_id <= :subject_id and c.highest_id >= :subject_id
      and (c.revision < walk.revision or c.revision = walk.revision and channel.no < walk.channel)
      and c.revision <= walk.revision -- for the index
      and c.kind = 'PREFERENCES' and c.reasons & walk.sought[channel.no] <> 0
      and one.set & walk.sought[channel.no] <> 0
    order by c.revision desc, channel.no desc
    limit 1
  ) step
  where 0 < any (walk.sought)
)
select s.revision, s.at, s.source, s.actor, s.batch_run_id, walk.contact_point, walk.method, walk.reasons
from walk
cross join lateral (
  select * from change_set s where s.district_id = :district_id and s.revision = walk.revision offset 0
) s
where walk.reasons <> 0
