-- Tells the planner the sizes of the staging tables, which no autovacuum sees.
-- Parameters: none
analyze import_id, import_use, import_organization, import_session, import_person, import_address, import_relationship,
  import_enrollment, import_assignment
