-- Gives a saved filter a name and criteria unless another of its kind has the name. Run `filter/lock` before it.
-- Parameters: district_id, name, criteria, saved_filter_id
-- Columns: saved_filter_id
update saved_filter f set name = :name, criteria = :criteria
where f.district_id = :district_id and f.saved_filter_id = :saved_filter_id
  and not exists (
    select from saved_filter other
    where other.district_id = :district_id and other.kind = f.kind and other.name = :name
      and other.saved_filter_id <> f.saved_filter_id)
returning f.saved_filter_id
