-- ChannelPreference of a person: a row for each channel, whether or not anything was set or is on record (D2, D4).
-- A portal user sees only their own (D27).
-- Parameters: district_id, viewer_sees_all, viewer_person_id
-- Columns: person_id, contact_point, method, value, on, chosen
select p.person_id, channel.contact_point, channel.method, v.value,
  case when s.reasons_on <> 0 then
    (select coalesce(json_agg(r.code order by r.bit), '[]') from reason r where s.reasons_on & r.mask <> 0)
  else '[]' end as "on",
  case when s.reasons_chosen <> 0 then
    (select coalesce(json_agg(r.code order by r.bit), '[]') from reason r where s.reasons_chosen & r.mask <> 0)
  else '[]' end as chosen
from person p
cross join (values
  ('HOME_PHONE'::contact_point_kind, 'VOICE'::method), ('HOME_PHONE', 'TEXT'),
  ('WORK_PHONE', 'VOICE'), ('WORK_PHONE', 'TEXT'),
  ('CELL_PHONE', 'VOICE'), ('CELL_PHONE', 'TEXT'),
  ('EMAIL', 'EMAIL'), ('SECONDARY_EMAIL', 'EMAIL')) as channel (contact_point, method)
left join contact_point v
  on v.district_id = p.district_id and v.person_id = p.person_id and v.kind = channel.contact_point
left join preference s
  on s.district_id = p.district_id and s.person_id = p.person_id
  and s.contact_point = channel.contact_point and s.method = channel.method
where p.district_id = :district_id
  and (:viewer_sees_all or p.person_id = :viewer_person_id)
