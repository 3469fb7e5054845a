-- Asks rules in SQL about the candidates of a plan. {denials} has the rows of denials.sql for each rule.
-- Parameters: district_id, today
-- Columns: none
insert into denial (rule_no, household, subject_id, contact_point, method, on_reasons, off_reasons)
{denials}
