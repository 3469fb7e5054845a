-- What PostGraphile is given: the district's data under the names of the product's own API, so that both answer the same.
-- {district_id} is the district, {on} and {chosen} decode a mask of reasons into an array of their codes.
create schema peer;

create view peer.person as
select person_id, 'person_' || person_id as id, first_name, last_name from public.person where district_id = {district_id};
comment on view peer.person is E'@primaryKey person_id\n@name person';

create view peer.household as
select household_id, name, phone from public.household where district_id = {district_id};
comment on view peer.household is E'@primaryKey household_id';

create view peer.membership as
select household_member_id, person_id, household_id from public.household_member
where district_id = {district_id} and active_on(start_date, end_date, current_date);
comment on view peer.membership is E'@primaryKey household_member_id\n@foreignKey (person_id) references person (person_id)|@fieldName person|@foreignFieldName households|@foreignSimpleFieldName householdsList\n@foreignKey (household_id) references household (household_id)|@fieldName household|@foreignFieldName members|@foreignSimpleFieldName membersList';

create view peer.person_preference as
select p.person_id, channel.contact_point::text, channel.method::text, v.value,
  {on} as "on", {chosen} as chosen
from public.person p
cross join (values
  ('HOME_PHONE'::contact_point_kind, 'VOICE'::method), ('HOME_PHONE', 'TEXT'),
  ('WORK_PHONE', 'VOICE'), ('WORK_PHONE', 'TEXT'),
  ('CELL_PHONE', 'VOICE'), ('CELL_PHONE', 'TEXT'),
  ('EMAIL', 'EMAIL'), ('SECONDARY_EMAIL', 'EMAIL')) as channel (contact_point, method)
left join public.contact_point v
  on v.district_id = p.district_id and v.person_id = p.person_id and v.kind = channel.contact_point
left join public.preference s
  on s.district_id = p.district_id and s.person_id = p.person_id
  and s.contact_point = channel.contact_point and s.method = channel.method
where p.district_id = {district_id};
comment on view peer.person_preference is E'@primaryKey person_id,contact_point,method\n@foreignKey (person_id) references person (person_id)|@foreignFieldName preferences|@foreignSimpleFieldName preferencesList';

create view peer.household_preference as
select h.household_id, channel.method::text, {on} as "on"
from public.household h
cross join (values ('VOICE'::method), ('TEXT')) as channel (method)
left join public.household_preference s
  on s.district_id = h.district_id and s.household_id = h.household_id and s.method = channel.method
where h.district_id = {district_id};
comment on view peer.household_preference is E'@primaryKey household_id,method\n@foreignKey (household_id) references household (household_id)|@foreignFieldName preferences|@foreignSimpleFieldName preferencesList';
