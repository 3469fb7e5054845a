-- Logs what was changed under the revision that was just taken (D28), once for each person or household and kind.
-- Parameters: district_id, revision
-- Columns: none
insert into change (district_id, revision, kind, person_id, household_id)
select distinct :district_id::integer, :revision::bigint, kind::change_kind, person_id, household_id
from import_change
