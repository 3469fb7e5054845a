-- The life of a run: planned without being applied, asked for twice, cancelled, reverted.

alter table batch_run
  -- A dry run that nobody has asked to apply: it waits for no turn and ends as PLANNED.
  add column plan_only boolean not null default false,
  -- The place in the queue (D21); of equal times the older run is first. A plan takes its place when it is to be applied.
  add column queued_at timestamptz not null default now(),
  add column planned_at timestamptz, -- when a dry run became PLANNED
  -- Set when a plan is applied: who left the population meanwhile, and whether the plan was older than the limit.
  add column left_population bigint,
  add column plan_outdated boolean,
  add column reverts_run_id bigint, -- the run that this one undoes (D29)
  add column status_before_revert batch_status, -- what a REVERTING run is again if its revert does not come to its end
  add foreign key (district_id, reverts_run_id) references batch_run;
update batch_run set queued_at = requested_at;
create index batch_run_reverts on batch_run (district_id, reverts_run_id) where reverts_run_id is not null;

-- D21: one run at a time works in a district. A plan only reads, and a run that is REVERTING is worked as its revert.
drop index batch_run_working;
create unique index batch_run_working on batch_run (district_id)
  where status in ('PLANNING', 'APPLYING') and not plan_only;
drop index batch_run_unfinished;
create index batch_run_unfinished on batch_run (district_id, batch_run_id)
  where status in ('QUEUED', 'PLANNING', 'APPLYING');

alter table batch_cell
  -- Cells that stayed because somebody set them meanwhile: themselves since the plan, or anybody since the run to undo.
  add column left_alone bigint not null default 0,
  add column excluded_since bigint not null default 0; -- of `excluded`: kept out only since the plan

alter table batch_target
  alter column subject_ids set storage external, -- written once, read once: packing them costs more than it saves
  -- Bits that stay as they are where they are chosen now: the plan saw them not chosen.
  add column yield_mask bigint not null default 0,
  -- Bits that become the person's own choice when they flip: a revert gives a choice back.
  add column choose_mask bigint not null default 0,
  drop constraint batch_target_pkey,
  add primary key (district_id, batch_run_id, chunk, contact_point, method, on_mask, off_mask, yield_mask, choose_mask);

-- A few of those whom a plan would change, a row for each of their channels.
create table batch_sample (
  district_id integer not null,
  batch_run_id bigint not null,
  place smallint not null, -- of the person or household, from 1
  household boolean not null,
  subject_id bigint not null,
  contact_point contact_point_kind not null,
  turned_on bigint not null,
  turned_off bigint not null,
  primary key (district_id, batch_run_id, place, contact_point),
  foreign key (district_id, batch_run_id) references batch_run
);

-- The same key and the same input answer the same run for a day.
create table idempotency_key (
  district_id integer not null,
  key text not null,
  request_hash text not null,
  batch_run_id bigint not null,
  created_at timestamptz not null default now(),
  primary key (district_id, key),
  foreign key (district_id, batch_run_id) references batch_run
);
create index idempotency_key_age on idempotency_key (created_at);
