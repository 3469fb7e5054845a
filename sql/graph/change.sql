-- Change: a row of the log (D28). A portal user sees what happened to themselves, and only the role of who did it.
-- They see no change of a relationship: a row does not say whether they may know of that relationship (D27).
-- Parameters: district_id, viewer_sees_all, viewer_person_id
-- Columns: revision_number, place, revision, contact_point, method, subject, bucket, subject_id, lowest_id, highest_id, person_id, household_id, batch_run_id, at, kind, source, actor, turned_on_mask, turned_off_mask
select c.revision as revision_number,
  -- Tells the rows of one revision and one person apart.
  100 * array_position(enum_range(null::change_kind), c.kind)::bigint
    + 10 * coalesce(array_position(enum_range(null::contact_point_kind), c.contact_point), 0)
    + coalesce(array_position(enum_range(null::method), c.method), 0) as place,
  c.revision::text as revision, c.contact_point, c.method, c.subject, c.bucket, c.subject_id, c.lowest_id, c.highest_id,
  case when c.subject = 'PERSON' then c.subject_id end as person_id,
  case when c.subject = 'HOUSEHOLD' then c.subject_id end as household_id, s.batch_run_id,
  s.at, c.kind, s.source,
  case when :viewer_sees_all then s.actor else split_part(s.actor, ':', 1) end as actor,
  c.turned_on as turned_on_mask, c.turned_off as turned_off_mask
from subject_change c
join change_set s on s.district_id = c.district_id and s.revision = c.revision
where c.district_id = :district_id
  and (:viewer_sees_all
    or c.subject = 'PERSON' and c.subject_id = :viewer_person_id and c.kind <> 'RELATIONSHIP')
