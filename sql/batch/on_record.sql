-- The contact points of which a value is on record for somebody selected (D15).
-- Columns: contact_point
select contact_point from candidate where address is not null group by contact_point
