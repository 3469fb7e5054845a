-- BatchCellOption: every cell of the matrix, whether it is enabled, and if not, why (D15, D32). {parent} is a row
-- of batch_options.
-- Parameters: district_id
-- Columns: contact_point, bit, reason, enabled, because, reachable
select kind.contact_point, r.bit, r.code as reason, kind.reachable,
  d.reason is null and kind.reachable > 0 as enabled,
  case
    when d.reason is not null then 'The district has switched this cell off.'
    when {parent}.population = 0 then 'Nobody is selected. Widen the scope.'
    when kind.reachable = 0 then 'Nobody selected has this contact point on record.'
  end as because
from unnest(enum_range(null::contact_point_kind), {parent}.reachable) as kind (contact_point, reachable)
cross join contact_reason r
left join disabled_cell d
  on d.district_id = r.district_id and d.contact_point = kind.contact_point and d.reason = r.code
where r.district_id = :district_id
