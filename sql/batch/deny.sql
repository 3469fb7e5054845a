-- Asks a rule. {denies} gives what it denies of `candidate`, {because} the words of its own for each; a null mask denies
-- all. Of that, what no rule before it denied is written down: each cell is kept out by one rule, the first. The masks
-- are the bits, of each contact point, that the rule speaks of.
-- Parameters: rule_no, contact_points, masks (arrays of one length)
with said as (
  select d.household, d.subject_id, d.contact_point,
    bit_or(coalesce(d.reasons, -1) & m.mask) as reasons, min({because}) as because
  from ({denies}) d
  join unnest(:contact_points::contact_point_kind[], :masks::bigint[]) as m (contact_point, mask)
    on m.contact_point = d.contact_point
  group by d.household, d.subject_id, d.contact_point
),
earlier as (
  select household, subject_id, contact_point, bit_or(reasons) as reasons
  from denied group by household, subject_id, contact_point
)
insert into denied (rule_no, household, subject_id, contact_point, reasons, because)
select :rule_no, household, subject_id, contact_point, said.reasons & ~coalesce(earlier.reasons, 0), said.because
from said
left join earlier using (household, subject_id, contact_point)
where said.reasons & ~coalesce(earlier.reasons, 0) <> 0
