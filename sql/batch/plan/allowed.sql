-- Lists the candidates with what the rules leave of the reasons to turn on and off. Null masks mark a denial of what is
-- no candidate: the full join finds it on the way. Of people or of households, those after :after and up to :upto.
-- Parameters: household, after, upto
-- Columns: subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen
select subject_id, contact_point, method, on_mask, off_mask,
  coalesce(skip_if_chosen & (on_mask | off_mask), 0) as skip_if_chosen, coalesce(mark_as_chosen, 0) as mark_as_chosen
from (
  select subject_id, contact_point, method, c.skip_if_chosen,
    c.mark_as_chosen & ~coalesce(d.on_reasons & c.on_mask, 0) as mark_as_chosen,
    c.on_mask & c.planned_reasons & ~coalesce(d.on_reasons, 0) as on_mask,
    c.off_mask & c.planned_reasons & ~coalesce(d.off_reasons, 0) as off_mask
  from (
    select * from all_channels
    where denied_by is null and household = :household and subject_id > :after::bigint and subject_id <= :upto::bigint
  ) c
  full join (
    select subject_id, contact_point, method, bit_or(on_reasons) as on_reasons, bit_or(off_reasons) as off_reasons
    from denial where household = :household and subject_id > :after and subject_id <= :upto
    group by subject_id, contact_point, method
  ) d using (subject_id, contact_point, method)
) left_over
