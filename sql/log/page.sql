-- Returns a page of the feed (D28): what each change set did to each person, household, school or reason, in the order
-- of revisions and within one by subject. It begins after a subject of a revision, which need not be in the log. The
-- rows of the index change_revision are in this order up to the bucket, so that no more is read than is given.
-- `offset 0` keeps the change sets from being read as a whole. {page_size} is a number.
-- Parameters: district_id, after_revision, after_subject, after_id
-- Columns: revision, subject, subject_id, kinds, at, source, actor, batch_run_id, last_of_revision
select n.revision, n.subject, n.subject_id, n.kinds, s.at, s.source, s.actor, s.batch_run_id, n.last_of_revision
from (
  select n.*, lead(n.revision) over place is distinct from n.revision as last_of_revision,
    row_number() over place as number
  from (
    select c.revision, c.subject, c.bucket, one.subject_id, array_agg(distinct c.kind) as kinds
    from change c
    cross join lateral unnest(c.subject_ids) as one (subject_id)
    where c.district_id = :district_id
      and (c.revision, c.subject, c.bucket) >= (:after_revision, :after_subject, bucket_of(:after_id))
      and (c.revision, c.subject, one.subject_id) > (:after_revision, :after_subject, :after_id)
    group by c.revision, c.subject, c.bucket, one.subject_id
    order by c.revision, c.subject, c.bucket, one.subject_id
    limit {page_size} + 1 -- one more: whether it belongs to the same revision
  ) n
  window place as (order by n.revision, n.subject, n.subject_id)
) n
cross join lateral (
  select * from change_set s where s.district_id = :district_id and s.revision = n.revision offset 0
) s
where n.number <= {page_size}
order by n.revision, n.subject, n.subject_id
