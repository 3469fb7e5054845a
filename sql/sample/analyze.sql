-- Tells the planner what a new district holds, whatever the district.
analyze school, calendar, person, contact_point, household, household_member, enrollment, district_assignment,
  relationship, contact_reason, disabled_cell, preference, household_preference, opt_out, change_set, change
