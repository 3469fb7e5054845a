-- Change: what one change set did to one person or household (D28), newest first. {subjects} says whose changes: it is
-- history_of_person or history_of_household. Where it names a member, only those change sets count on whose day, in
-- the district's time zone, the member was an active member of the household (D6).
-- A portal user does not see changes of relationships, nor of a household's members, and of who made a change only the
-- role (D27).
-- Each person and household gives their newest :nodes changes up to the revision :up_to (null: all), which is enough
-- for a page. Of a household only the revisions from the member's first day to the last are read, and a day more at each
-- end (see revision_before). So a page takes as long as what is on it, however long the histories are, but for the rows
-- of the bucket that lie between and name others: each takes about a microsecond more than finding it, because
-- place_of reads none of its arrays but subject_ids.
-- Parameters: district_id, viewer_sees_all, time_zone, nodes, up_to
-- Columns: revision_number, household, subject_id, revision, person_id, household_id, batch_run_id, at, kinds, source, actor
select n.revision as revision_number, h.subject = 'HOUSEHOLD' as household, h.subject_id, n.revision::text as revision,
  case h.subject when 'PERSON' then h.subject_id end as person_id,
  case h.subject when 'HOUSEHOLD' then h.subject_id end as household_id,
  s.batch_run_id, s.at, n.kinds, s.source,
  case when :viewer_sees_all then s.actor else split_part(s.actor, ':', 1) end as actor
from (
  {subjects}
) h
cross join lateral (
  select case when h.member_id is null or bool_or(m.start_date is null) then 0
      else revision_before(:district_id, (min(m.start_date) - 1)::timestamp at time zone :time_zone)
    end as since,
    case when h.member_id is null or bool_or(m.end_date is null) then 9223372036854775807
      else revision_before(:district_id, (max(m.end_date) + 2)::timestamp at time zone :time_zone)
    end as until
  from household_member m
  where m.district_id = :district_id and m.household_id = h.subject_id and m.person_id = h.member_id
) membership
cross join lateral (
  select c.revision, array_agg(distinct c.kind order by c.kind) as kinds
  from change c
  where c.district_id = :district_id and c.subject = h.subject and c.bucket = bucket_of(h.subject_id)
    and c.lowest_id <= h.subject_id and c.highest_id >= h.subject_id
    and c.revision <= least(membership.until, :up_to::bigint)
    -- As a row, so that the planner takes the index on the bucket: of revision alone it expects too few rows.
    and (c.subject, c.bucket, c.revision) >= (h.subject, bucket_of(h.subject_id), membership.since)
    and place_of(c.subject_ids, h.subject_id) is not null
    and (:viewer_sees_all or c.kind <> 'RELATIONSHIP' and (c.kind <> 'MEMBERSHIP' or c.subject <> 'HOUSEHOLD'))
    and (h.member_id is null or exists (
      select from change_set s
      join household_member m on m.district_id = s.district_id
        and active_on(m.start_date, m.end_date, (s.at at time zone :time_zone)::date)
      where s.district_id = :district_id and s.revision = c.revision
        and m.household_id = h.subject_id and m.person_id = h.member_id
      offset 0))
  group by c.revision
  order by c.revision desc
  limit :nodes::bigint
) n
join change_set s on s.district_id = :district_id and s.revision = n.revision
