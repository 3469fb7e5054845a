-- Keeps, of the channels found, those that the plan which is being applied knew: what it was to change and what its rules
-- excluded. Rules see both, as they did then; only what it was to change is changed or counted. Whoever has joined the
-- population since stays as they are. The old plan is removed; it is written anew.
-- Parameters: district_id, batch_run_id
-- Columns: left_population (people and households of the plan that are no longer selected), candidates (how many are left)
with planned as materialized (
  delete from batch_target t
  where t.district_id = :district_id and t.batch_run_id = :batch_run_id
  returning t.household, t.contact_point, t.subject_ids, t.on_masks, t.off_masks, t.skip_if_chosen
),
planned_channel as materialized (
  select known.household, known.subject_id, known.contact_point, max(known.reasons) as reasons, -- others of a channel are 0
    max(known.skip_if_chosen) as skip_if_chosen
  from (
    select p.household, p.contact_point, s.subject_id,
      coalesce(s.on_mask, p.on_masks[1], 0) | coalesce(s.off_mask, p.off_masks[1], 0) as reasons,
      coalesce(s.skip_if_chosen, p.skip_if_chosen[1], 0) as skip_if_chosen
    from planned p
    cross join lateral unnest(p.subject_ids, p.on_masks, p.off_masks, p.skip_if_chosen)
      as s (subject_id, on_mask, off_mask, skip_if_chosen)
    union all
    select b.household, b.contact_point, s.subject_id, 0, null
    from batch_exclusion_block b
    cross join lateral unnest(b.subject_ids) as s (subject_id)
    where b.district_id = :district_id and b.batch_run_id = :batch_run_id
  ) known
  group by known.household, known.subject_id, known.contact_point
),
found as (
  delete from all_channels returning *
),
kept as (
  insert into all_channels
    (household, subject_id, contact_point, method, address, on_mask, off_mask, planned_reasons, denied_reasons,
    skip_if_chosen, denied_by)
  select household, subject_id, contact_point, found.method, found.address, found.on_mask, found.off_mask,
    p.reasons & ~found.denied_reasons, p.reasons & found.denied_reasons, p.skip_if_chosen, found.denied_by
  from found join planned_channel p using (household, subject_id, contact_point)
  where p.reasons <> 0 or found.denied_by is null -- else no candidate, and nothing to count
  returning household, subject_id, planned_reasons | denied_reasons as reasons, denied_by
)
select (select count(*) from (select distinct household, subject_id from planned_channel where reasons <> 0) p)
  - (select count(*) from (select distinct household, subject_id from kept where reasons <> 0) f) as left_population,
  (select count(*) from kept where denied_by is null) as candidates
