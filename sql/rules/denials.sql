-- Lists what one rule in SQL denies, a row for each channel. {deny_select} is the rule's SELECT over `candidate`; a null
-- mask denies every reason. `on_reasons` are denied where the request turns them on, `off_reasons` where it turns them
-- off. The channel may be no candidate: the reader of these rows finds that out.
-- Parameters: district_id, today, rule_no, on_bits, off_bits (-1 where the rule is about that setting, else 0)
-- Columns: rule_no, household, subject_id, contact_point, method, on_reasons, off_reasons
select :rule_no::smallint as rule_no, d.household, d.subject_id, d.contact_point, d.method,
  bit_or(coalesce(d.reasons, -1)) & :on_bits::bigint as on_reasons,
  bit_or(coalesce(d.reasons, -1)) & :off_bits::bigint as off_reasons
from ({deny_select}) d
group by d.household, d.subject_id, d.contact_point, d.method
