-- Saved filters.

-- name: lock
-- Makes transactions that save filters of one district wait for each other, so that a name that was free when it
-- was looked up is still free when it is taken, and no more are saved than can be listed.
-- Parameters: district_id
-- Columns: none
select pg_advisory_xact_lock(hashtext('saved_filter'), :district_id)

-- name: count
-- Returns how many saved filters a district has. `lock` comes before it.
-- Parameters: district_id
-- Columns: count
select count(*) from saved_filter where district_id = :district_id

-- name: create
-- Creates a saved filter, unless another filter of its kind has the name.
-- Parameters: district_id, name, kind, criteria
-- Columns: saved_filter_id
insert into saved_filter (district_id, name, kind, criteria)
values (:district_id, :name, :kind, :criteria)
on conflict (district_id, kind, name) do nothing
returning saved_filter_id

-- name: update
-- Gives a saved filter a name and criteria, unless another filter of its kind has the name. `lock` comes before
-- it.
-- Parameters: district_id, name, criteria, saved_filter_id
-- Columns: saved_filter_id
update saved_filter f set name = :name, criteria = :criteria
where f.district_id = :district_id and f.saved_filter_id = :saved_filter_id
  and not exists (
    select from saved_filter other
    where other.district_id = :district_id and other.kind = f.kind and other.name = :name
      and other.saved_filter_id <> f.saved_filter_id)
returning f.saved_filter_id

-- name: delete
-- Deletes a saved filter.
-- Parameters: district_id, saved_filter_id
-- Columns: saved_filter_id
delete from saved_filter where district_id = :district_id and saved_filter_id = :saved_filter_id
returning saved_filter_id

-- name: find
-- Returns the kind and criteria of a saved filter.
-- Parameters: district_id, saved_filter_id
-- Columns: kind, criteria
select kind, criteria from saved_filter where district_id = :district_id and saved_filter_id = :saved_filter_id

-- name: list
-- Returns the kinds and criteria of the filters of a district: of one filter, or of all, or all of one kind.
-- Parameters: district_id, all_filters, saved_filter_id, kind (null: all kinds)
-- Columns: saved_filter_id, kind, criteria (jsonb)
select saved_filter_id, kind, criteria
from saved_filter
where district_id = :district_id and (:all_filters::boolean or saved_filter_id = :saved_filter_id::bigint)
  and (:kind::filter_kind is null or kind = :kind::filter_kind)
order by saved_filter_id
