-- Keeps, of the channels found, those of the plan that is being applied: whoever has joined the population since stays as
-- they are. The old plan is removed; it is written anew.
-- Parameters: district_id, batch_run_id
-- Columns: left_population (people and households of the plan that are no longer selected), candidates (how many are left)
with planned as materialized (
  delete from batch_target t
  where t.district_id = :district_id and t.batch_run_id = :batch_run_id
  returning t.household, t.contact_point, t.on_mask, t.off_mask, t.skip_if_chosen, t.subject_ids
),
planned_channel as materialized (
  select p.household, s.subject_id, p.contact_point, p.on_mask, p.off_mask, p.skip_if_chosen
  from planned p cross join lateral unnest(p.subject_ids) as s (subject_id)
),
found as (
  delete from all_channels returning *
),
kept as (
  insert into all_channels
    (household, subject_id, contact_point, method, address, on_mask, off_mask, skip_if_chosen, denied_by)
  select household, subject_id, contact_point, found.method, found.address, found.on_mask & p.on_mask,
    found.off_mask & p.off_mask, p.skip_if_chosen, found.denied_by
  from found join planned_channel p using (household, subject_id, contact_point)
  returning household, subject_id, denied_by
)
select (select count(*) from (select distinct household, subject_id from planned_channel) p)
  - (select count(*) from (select distinct household, subject_id from kept) f) as left_population,
  (select count(*) from kept where denied_by is null) as candidates
