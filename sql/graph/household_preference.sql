-- ChannelPreference of a household (D5): a row for each channel, whether or not anything was set. A portal user
-- sees those of the households of which they are an active member (D27).
-- Parameters: district_id, viewer_sees_all
-- Columns: household_id, contact_point, method, value, on, chosen
select h.household_id, 'HOUSEHOLD_PHONE'::contact_point_kind as contact_point, channel.method, h.phone as value,
  case when s.reasons_on <> 0 then
    (select coalesce(json_agg(r.code order by r.bit), '[]') from reason r where s.reasons_on & r.mask <> 0)
  else '[]' end as "on",
  case when s.reasons_chosen <> 0 then
    (select coalesce(json_agg(r.code order by r.bit), '[]') from reason r where s.reasons_chosen & r.mask <> 0)
  else '[]' end as chosen
from household h
cross join (values ('VOICE'::method), ('TEXT')) as channel (method)
left join household_preference s
  on s.district_id = h.district_id and s.household_id = h.household_id
  and s.contact_point = 'HOUSEHOLD_PHONE' and s.method = channel.method
where h.district_id = :district_id
  and (:viewer_sees_all
    or h.household_id in (select household_id from viewer_household where own))
