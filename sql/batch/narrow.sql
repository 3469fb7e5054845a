-- Narrows what was gathered to a plan that is to be applied: who has joined the population since is not touched. The old
-- plan is taken away, to be written anew.
-- Parameters: district_id, batch_run_id
-- Columns: gone (people and households of the plan that are selected no more), candidates (how many are left)
with planned as materialized (
  delete from batch_target t
  where t.district_id = :district_id and t.batch_run_id = :batch_run_id
  returning t.household, t.contact_point, t.on_mask, t.off_mask, t.skip_if_chosen, t.subject_ids
),
planned_one as materialized (
  select p.household, s.subject_id, p.contact_point, p.on_mask, p.off_mask, p.skip_if_chosen
  from planned p cross join lateral unnest(p.subject_ids) as s (subject_id)
),
fresh as (
  delete from gathered returning *
),
fitting as (
  insert into gathered
    (household, subject_id, contact_point, method, address, on_mask, off_mask, skip_if_chosen, barred_by)
  select household, subject_id, contact_point, fresh.method, fresh.address, fresh.on_mask & p.on_mask,
    fresh.off_mask & p.off_mask, p.skip_if_chosen, fresh.barred_by
  from fresh join planned_one p using (household, subject_id, contact_point)
  returning household, subject_id, barred_by
)
select (select count(*) from (select distinct household, subject_id from planned_one) p)
  - (select count(*) from (select distinct household, subject_id from fitting) f) as gone,
  (select count(*) from fitting where barred_by is null) as candidates
