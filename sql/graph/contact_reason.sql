-- ContactReason: every role sees the reasons of its district (D3).
-- Parameters: district_id
-- Columns: bit, code, label, description, plugin
select r.bit, r.code, r.label, r.description, r.plugin
from contact_reason r
where r.district_id = :district_id
