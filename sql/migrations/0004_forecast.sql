-- What a plan foresees is kept apart from what a run did (D20).

-- The cells of a run that was asked for as a plan, with the counts that the plan foresees: the columns of batch_cell, counted
-- in the same way. No rows until there is a plan, and none for a run that was never one.
create table batch_forecast (like batch_cell including defaults);
alter table batch_forecast
  add primary key (district_id, batch_run_id, contact_point, reason),
  add foreign key (district_id, batch_run_id) references batch_run,
  add foreign key (district_id, reason) references contact_reason;

-- Of a plan that was not applied, the counts were what it foresaw. What an applied one foresaw is not known any more.
insert into batch_forecast
select cell.*
from batch_cell cell
join batch_run r on r.district_id = cell.district_id and r.batch_run_id = cell.batch_run_id
where r.planned_at is not null and r.left_population is null;
update batch_cell cell
set updated = 0, unchanged = 0, overwrote_chosen = 0, kept_chosen = 0, excluded = 0, people_affected = 0, left_alone = 0,
  excluded_since = 0
from batch_forecast f
where f.district_id = cell.district_id and f.batch_run_id = cell.batch_run_id
  and f.contact_point = cell.contact_point and f.reason = cell.reason;
