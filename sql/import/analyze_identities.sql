-- Tells the planner the size of the table that all the others are joined to.
-- Parameters: none
analyze import_identity
