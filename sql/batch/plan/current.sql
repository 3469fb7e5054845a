-- Lists the preferences of a district's people or households for the contact points that a run names, by VOICE and EMAIL
-- alone (D14), so that the contact point identifies the channel. {table} and its {subject}: see preference/write.sql.
-- Those of the subjects after :after and up to :upto.
-- Parameters: district_id, contact_points, after, upto
-- Columns: subject_id, contact_point, reasons_on, reasons_chosen, place (of the row in its table)
select {subject} as subject_id, contact_point, reasons_on, reasons_chosen, ctid as place
from {table}
where district_id = :district_id and contact_point = any (:contact_points::contact_point_kind[]) and method <> 'TEXT'
  and {subject} > :after::bigint and {subject} <= :upto::bigint
