-- Creates a district unless its code is taken.
-- Parameters: code, name, time_zone
insert into district (code, name, time_zone) values (:code, :name, :time_zone)
on conflict (code) do nothing
