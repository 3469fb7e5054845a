-- Those of the cells named that the district has switched off (D15).
-- Parameters: district_id, contact_points, reasons (arrays of one length)
-- Columns: contact_point, reason
select contact_point, reason from disabled_cell
where district_id = :district_id
  and (contact_point, reason) in (
    select * from unnest(:contact_points::contact_point_kind[], :reasons::text[]))
