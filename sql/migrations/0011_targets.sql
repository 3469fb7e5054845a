-- A plan keeps what it read, so that a chunk can be written without locking its rows first: whatever is still as the
-- plan read it is updated as the plan decided, and the rest is decided under locks. A target is what the log will tell of
-- it: one channel of the people, or households, of a chunk whose ids share a bucket, each with masks of their own.

alter table batch_target rename to former_target;
alter table former_target drop constraint batch_target_pkey;

create type target_state as enum (
  'PLANNED', -- decided by the plan, from what it read
  'CHANGED', -- changed by somebody after the plan, or it is not known what the plan read: to be decided under locks
  'LOCKED' -- decided again, under locks
);

create table batch_target (
  district_id integer not null,
  batch_run_id bigint not null,
  -- From 1; the run has done all up to batch_run.chunks_done. Of a plan that is only looked at, a negative number.
  chunk integer not null,
  household boolean not null, -- whether subject_ids are households; else people. The same in all of a chunk
  contact_point contact_point_kind not null,
  method method not null,
  bucket bigint not null, -- bucket_of every one of subject_ids; of a plan that is only looked at, 0
  changes boolean not null, -- whether the row is to be written, and then logged; else everything is already as asked
  state target_state not null default 'PLANNED', -- once a chunk has CHANGED rows, they are all that is left of it to do
  subjects integer not null, -- how many people or households all rows of the chunk name together
  channels integer not null, -- how many subject_ids there are
  reasons bigint not null default 0, -- every bit that changes for anybody
  subject_ids bigint[] not null, -- ascending
  -- Where in the table the plan found their preference rows; null where there is none. A row that is not there any more
  -- was changed, or moved by maintenance.
  places tid[],
  -- What is asked for: packed masks, in the order of subject_ids (see packed_masks).
  on_masks bigint[],
  off_masks bigint[],
  skip_if_chosen bigint[], -- bits that are skipped where they are chosen when the chunk is written
  mark_as_chosen bigint[], -- bits that become a person's choice: a revert gives a choice back
  -- The preferences as the plan read them, packed in the same way, but {0} where they are all 0. Null: not known.
  was_on bigint[],
  was_chosen bigint[],
  -- What is done to a preference that is still so, packed in the same way: the bits that it leaves alone, and what the log
  -- will tell (see change).
  leave bigint[],
  turned_on bigint[],
  turned_off bigint[],
  chosen bigint[],
  unchosen bigint[],
  primary key (district_id, batch_run_id, chunk, household, contact_point, method, bucket, changes, state)
);
alter table batch_target
  -- Written once and read once: compressing them, or keeping them apart, costs more than it saves.
  set (toast_tuple_target = 8160),
  alter column subject_ids set storage external,
  alter column places set storage external,
  alter column on_masks set storage external,
  alter column off_masks set storage external,
  alter column skip_if_chosen set storage external,
  alter column mark_as_chosen set storage external,
  alter column was_on set storage external,
  alter column was_chosen set storage external,
  alter column leave set storage external,
  alter column turned_on set storage external,
  alter column turned_off set storage external,
  alter column chosen set storage external,
  alter column unchosen set storage external;

-- It is not known what an unfinished revert read when it was planned. So it goes on as it began: of what was changed
-- after its plan it leaves alone only what a person chose since (skip_if_chosen), and not yet all that somebody changed.
insert into batch_target (district_id, batch_run_id, chunk, household, contact_point, method, bucket, changes, state,
  subjects, channels, subject_ids, on_masks, off_masks, skip_if_chosen, mark_as_chosen)
select district_id, batch_run_id, t.chunk, t.household, t.contact_point, t.method, bucket_of(s.subject_id), true,
  'CHANGED', max(t.subjects), count(*), array_agg(s.subject_id order by s.subject_id),
  packed_masks(array_agg(t.on_mask order by s.subject_id)),
  packed_masks(array_agg(t.off_mask order by s.subject_id)),
  packed_masks(array_agg(t.skip_if_chosen order by s.subject_id)),
  packed_masks(array_agg(t.mark_as_chosen order by s.subject_id))
from former_target t
join batch_run r using (district_id, batch_run_id)
cross join lateral unnest(t.subject_ids) as s (subject_id)
where needs_plan(r.status)
group by district_id, batch_run_id, t.chunk, t.household, t.contact_point, t.method, bucket_of(s.subject_id);

drop table former_target;
