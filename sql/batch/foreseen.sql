-- The households that a plan would change, and the bits.
-- Columns: household_id, reasons
select household_id, reasons from foreseen
