-- Lists all candidates in key order, for rules in Python.
-- Parameters: none
-- Columns: household, subject_id, contact_point, method, address
select household, subject_id, contact_point, method, address from candidate
order by household, subject_id, contact_point, method
