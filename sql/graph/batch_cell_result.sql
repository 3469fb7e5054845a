-- BatchCellResult: every cell of the matrix, with its counts (D20). {counts} is batch_cell for what a run has done, or
-- batch_forecast for what its plan predicts. Cells that the run does not name are NO_CHANGE.
-- Parameters: district_id, viewer_role
-- Columns: batch_run_id, contact_point, bit, reason, set, updated, unchanged, overwrote_chosen, kept_chosen, excluded, left_alone, people_affected
select b.batch_run_id, kind.contact_point, r.bit, r.code as reason,
  case c.turn_on when true then 'ON' when false then 'OFF' else 'NO_CHANGE' end as set,
  c.updated, c.unchanged, c.overwrote_chosen, c.kept_chosen, c.excluded, c.left_alone, c.people_affected
from batch_run b
cross join unnest(enum_range(null::contact_point_kind)) as kind (contact_point)
join contact_reason r on r.district_id = b.district_id
left join {counts} c
  on c.district_id = b.district_id and c.batch_run_id = b.batch_run_id
  and c.contact_point = kind.contact_point and c.reason = r.code
where b.district_id = :district_id and :viewer_role = 'ADMIN'
