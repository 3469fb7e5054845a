-- Writes what changed under the revision just taken (D28). A person or household stands there once for each kind.
-- Parameters: district_id, revision
insert into change (district_id, revision, kind, person_id, household_id)
select distinct :district_id::integer, :revision::bigint, kind::change_kind, person_id, household_id
from import_change
