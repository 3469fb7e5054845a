-- The beginning of every compiled read: who the viewer is, whom a portal user may see besides themselves (D27), and
-- the reasons of the district, by which every mask is decoded (D3). A relationship marked no-contact hides two people
-- from each other, whatever other relationship they have.
-- The CTEs are materialized, so that they are computed once for all types that use them. For roles that see all, the
-- compiler makes those about the viewer not materialized: no row depends on them.
-- Parameters: district_id, today, viewer_role, viewer_source_id
-- Columns: viewer (person_id), viewer_student (person_id), viewer_household (household_id, own),
-- reason (code, bit, mask)
with viewer as materialized (
  select person_id from person where district_id = :district_id and source_id = :viewer_source_id
),
viewer_student as materialized (
  select r.student_id as person_id
  from relationship r
  where r.district_id = :district_id
    and r.contact_id = (select person_id from viewer)
    and :viewer_role in ('GUARDIAN', 'STUDENT')
    and active_on(r.start_date, r.end_date, :today)
  group by r.student_id
  having not bool_or(r.no_contact)
),
viewer_household as materialized (
  select m.household_id, bool_or(m.person_id = (select person_id from viewer)) as own
  from household_member m
  where m.district_id = :district_id
    -- As an array, and not as two conditions: those would read all members of the district.
    and m.person_id = any (array(select person_id from viewer union all select person_id from viewer_student))
    and active_on(m.start_date, m.end_date, :today)
  group by m.household_id
),
reason as materialized (
  select code, bit, 1::bigint << bit as mask from contact_reason where district_id = :district_id order by bit
)
