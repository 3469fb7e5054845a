-- BatchCellResult: every cell of the matrix, with the counts that the plan of a run predicts (D20). There is no
-- row until there is a plan.
-- Parameters: district_id, viewer_role
-- Columns: batch_run_id, contact_point, bit, reason, set, updated, unchanged, overwrote_chosen, kept_chosen, excluded, left_alone, people_affected
select b.batch_run_id, kind.contact_point, r.bit, r.code as reason,
  case f.turn_on when true then 'ON' when false then 'OFF' else 'NO_CHANGE' end as set,
  f.updated, f.unchanged, f.overwrote_chosen, f.kept_chosen, f.excluded, f.left_alone, f.people_affected
from batch_run b
cross join unnest(enum_range(null::contact_point_kind)) as kind (contact_point)
join contact_reason r on r.district_id = b.district_id
left join batch_forecast f
  on f.district_id = b.district_id and f.batch_run_id = b.batch_run_id
  and f.contact_point = kind.contact_point and f.reason = r.code
where b.district_id = :district_id and :viewer_role = 'ADMIN'
  and exists (
    select from batch_forecast made where made.district_id = b.district_id and made.batch_run_id = b.batch_run_id)
