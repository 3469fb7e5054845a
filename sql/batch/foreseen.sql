-- The households that a run would change, and the bits, of {decided}.
-- Columns: household_id, reasons
select d.subject_id as household_id, d.flipped as reasons
from ({decided}) d
where d.household and d.flipped <> 0
