-- BatchSampleCell: the cells in which a plan would change a person or household of the sample.
-- Parameters: district_id, viewer_role
-- Columns: batch_run_id, place, contact_point, bit, reason, set
select s.batch_run_id, s.place, s.contact_point, r.bit, r.code as reason,
  case when s.turned_on & (1::bigint << r.bit) <> 0 then 'ON' else 'OFF' end as set
from batch_sample s
join contact_reason r
  on r.district_id = s.district_id and (s.turned_on | s.turned_off) & (1::bigint << r.bit) <> 0
where s.district_id = :district_id and :viewer_role = 'ADMIN'
