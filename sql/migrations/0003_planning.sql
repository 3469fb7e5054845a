-- How far a plan is while it is made: its transaction cannot tell, so its worker writes it beside.

create type planning_step as enum ('SELECTING_PEOPLE', 'FINDING_CHANNELS', 'ASKING_RULES', 'WRITING_PLAN');
alter table batch_run
  -- Set while the run is PLANNING, null before and after.
  add column planning_step planning_step,
  add column planning_done bigint, -- of the step, in its own measure
  add column planning_total bigint; -- 0 where it cannot be told
-- A run that is PLANNING when its server is replaced begins its plan anew, and says so.
update batch_run set planning_step = 'SELECTING_PEOPLE', planning_done = 0, planning_total = 0 where status = 'PLANNING';
