-- The households: each found again by the id of any student who lives there, so that it stays the same one when a
-- sibling with a smaller id moves in. Its phone is the home phone of a contact who lives there, a primary contact's
-- before others'.
-- Parameters: district_id
insert into import_household (root, source_id, name, phone)
select home.root, coalesce(home.known, home.first), home.name, phone.value
from (
  select r.root, min(r.household_source_id collate "C") as first, min(h.source_id collate "C") as known,
    array_to_string((array_agg(distinct p.last_name))[1:3], ' / ') as name
  from import_resident r
  join person p on p.district_id = :district_id and p.person_id = r.person_id
  left join household h on h.district_id = :district_id and h.source_id = r.household_source_id
  where r.household_source_id is not null
  group by r.root
) home
left join (
  select distinct on (r.root) r.root, c.value
  from import_resident r
  join import_contact_point c on c.person_id = r.person_id and c.kind = 'HOME_PHONE'
  join (
    select i.id, i.key, bool_or(t.primary_contact) as primary_contact
    from import_relationship t
    join import_identity i on i.token = t.contact
    where t.lives_with
    group by i.id, i.key
  ) contact on contact.id = r.person_id
  order by r.root, contact.primary_contact desc, contact.key collate "C"
) phone on phone.root = home.root
