-- Lists who denies which reasons of the candidates: each reason by the first rule that denies it, in the order of the
-- rules' numbers. `denial` may name more than the request sets for a candidate; that counts for nothing.
-- Parameters: none
-- Columns: rule_no, household, subject_id, contact_point, method, reasons, code, because, remedy
select rule_no, household, subject_id, contact_point, method, reasons & ~coalesce(earlier, 0) as reasons, code,
  because, remedy
from (
  select d.*, bit_or(d.reasons) over (
    partition by d.household, d.subject_id, d.contact_point, d.method
    order by d.rule_no rows between unbounded preceding and 1 preceding) as earlier
  from (
    select d.rule_no, household, subject_id, contact_point, method,
      ((d.on_reasons & c.on_mask) | (d.off_reasons & c.off_mask)) & c.planned_reasons as reasons,
      d.code, d.because, d.remedy
    from denial d
    join all_channels c using (household, subject_id, contact_point, method)
    where c.denied_by is null
  ) d
) d
where reasons & ~coalesce(earlier, 0) <> 0
