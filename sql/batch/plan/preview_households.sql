-- Lists the households that a plan would change, and the reasons.
-- Parameters: none
-- Columns: household_id, reasons
select household_id, reasons from preview_household
