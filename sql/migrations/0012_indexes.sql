-- Indexes for reads whose time must not grow with the district.

-- Names for the search of people, which compares the beginning in lower case. The order of people follows, so that what
-- is found is read from the index alone.
create index person_last_name_start on person
  (district_id, lower(last_name) text_pattern_ops, last_name, first_name, person_id);
create index person_first_name_start on person
  (district_id, lower(first_name) text_pattern_ops, last_name, first_name, person_id);

-- The order of `households`.
create index household_name on household (district_id, name, household_id);

-- Grades as they are compared (D32): without zeros before the rest.
create index enrollment_grade on enrollment
  (district_id, (coalesce(nullif(ltrim(grade, '0'), ''), right(grade, 1))), person_id);

-- The staff of a school.
create index district_assignment_school on district_assignment (district_id, school_id, person_id);
