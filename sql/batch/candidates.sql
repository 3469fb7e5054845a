-- All candidates, in key order, for rules that are Python.
-- Columns: household, subject_id, contact_point, method, address
select household, subject_id, contact_point, method, address from candidate
order by household, subject_id, contact_point
