-- Reads what a run changed, and what was changed after it by anybody else, from the log (D29). A run changes a channel once.
-- Parameters: district_id, reverts_run_id
with own as materialized (
  select s.revision from change_set s
  where s.district_id = :district_id and s.batch_run_id = :reverts_run_id
),
done as (
  select c.revision, c.household_id is not null as household, coalesce(c.household_id, c.person_id) as subject_id,
    c.contact_point, c.method, c.turned_on, c.turned_off, c.unchosen
  from change c
  where c.district_id = :district_id and c.kind = 'PREFERENCES'
    and c.revision = any (array(select revision from own))
),
later as materialized (
  select c.revision, c.household_id is not null as household, coalesce(c.household_id, c.person_id) as subject_id,
    c.contact_point, c.method, c.turned_on | c.turned_off | c.chosen | c.unchosen as touched
  from change c
  where c.district_id = :district_id and c.kind = 'PREFERENCES'
    and c.revision = any (array(
      select s.revision from change_set s
      where s.district_id = :district_id and s.revision > (select min(revision) from own)
        and s.batch_run_id is distinct from :reverts_run_id))
),
touched as (
  select done.household, done.subject_id, done.contact_point, done.method, bit_or(later.touched) as touched
  from done
  join later using (household, subject_id, contact_point, method)
  where later.revision > done.revision
  group by done.household, done.subject_id, done.contact_point, done.method
)
insert into undone (household, subject_id, contact_point, method, turned_on, turned_off, unchosen, touched)
select household, subject_id, contact_point, method, done.turned_on, done.turned_off, done.unchosen,
  coalesce(touched.touched, 0)
from done
left join touched using (household, subject_id, contact_point, method)
