-- Lists who denies which reasons of the candidates: each reason by the first rule that denies it, in the order of the
-- rules' numbers. Early rules have their denials in `all_channels` (see batch/plan/relations.sql): here they only come
-- before others. `denial` may name more than the request sets for a candidate; that counts for nothing.
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
      ((d.on_reasons & c.on_mask) | (d.off_reasons & c.off_mask))
        & case
          when c.denied_reasons = 0 then c.planned_reasons
          else c.planned_reasons | (c.denied_reasons & coalesce(
            (select bit_or(e.reasons) from early_rule e where e.rule_no > d.rule_no), 0))
        end as reasons,
      d.code, d.because, d.remedy
    from denial d
    join all_channels c using (household, subject_id, contact_point, method)
    where c.denied_by is null
  ) d
) d
where reasons & ~coalesce(earlier, 0) <> 0
