-- Logs what was changed under the revision that was just taken (D28), once for each subject and kind.
-- Parameters: district_id, revision
-- Columns: none
insert into change (district_id, revision, subject, bucket, kind, subject_ids, lowest_id, highest_id)
select :district_id, :revision, subject, bucket_of(subject_id), kind, array_agg(subject_id order by subject_id),
  min(subject_id), max(subject_id)
from (select distinct subject::subject_kind, kind::change_kind, subject_id from import_change) changed
group by subject, bucket_of(subject_id), kind
order by subject, bucket_of(subject_id), kind
