-- Creates a saved filter unless its name is taken among the filters of its kind.
-- Parameters: district_id, name, kind, criteria
-- Columns: saved_filter_id
insert into saved_filter (district_id, name, kind, criteria)
values (:district_id, :name, :kind, :criteria)
on conflict (district_id, kind, name) do nothing
returning saved_filter_id
