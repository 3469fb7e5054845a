-- Tells the planner who lives where.
-- Parameters: none
analyze import_resident, import_root, import_household, import_contact_point
