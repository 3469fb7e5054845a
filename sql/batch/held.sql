-- What the people or households of a district hold of the contact points that a run names, by VOICE and EMAIL (D14), so
-- that the contact point alone tells the channel. {table} and its {subject}: see preference/write.sql.
-- Parameters: district_id, contact_points
-- Columns: subject_id, contact_point, reasons_on, reasons_chosen
select {subject} as subject_id, contact_point, reasons_on, reasons_chosen
from {table}
where district_id = :district_id and contact_point = any (:contact_points::contact_point_kind[]) and method <> 'TEXT'
