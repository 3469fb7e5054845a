-- Gives every resident the number of the household's first student.
-- Parameters: none
update import_resident r set root = o.root from import_root o where o.number = r.number
