-- The log in its last form (D28): what a change set did to the same channel of up to 960 people with consecutive ids is
-- one row, with the people and their masks as arrays.

create type subject_kind as enum ('PERSON', 'HOUSEHOLD', 'SCHOOL', 'REASON');
-- No statement of this migration names them: PostgreSQL forbids it in the transaction that adds them.
alter type change_kind add value 'ASSIGNMENT';
alter type change_kind add value 'SCHOOL';
alter type change_kind add value 'REASON';

-- The bucket of an id: 960 consecutive ids share one. So the bucket of a person is known from their id. It is the largest
-- round number of ids that fit in a page as an array, beside the other columns of a row of the log.
create function bucket_of(id bigint) returns bigint
  language sql immutable parallel safe
  return id / 960;

-- Packs masks that stand beside ids: null where all are 0, one element where all are the same, else an element an id.
create function packed_masks(masks bigint[]) returns bigint[]
  language sql immutable parallel safe
  return case when array_remove(masks, masks[1]) <> '{}' then masks when masks[1] <> 0 then masks[1 : 1] end;

-- One of packed masks: that of the subject at a place, from 1, of the ids.
create function mask_at(masks bigint[], place bigint) returns bigint
  language sql immutable parallel safe
  return coalesce(masks[place], masks[1], 0);

-- The place of one id, from 1, in the ids of a row; null if the row does not name it. width_bucket searches by halves for
-- how many of the ids are not above a number.
create function place_of(subject_ids bigint[], id bigint) returns integer
  language sql immutable parallel safe
  return nullif(width_bucket(id, subject_ids), width_bucket(id - 1, subject_ids));

-- The place of a channel, from 1, in an array that holds a mask for each channel.
create function channel_no(contact_point contact_point_kind, method method) returns integer
  language sql immutable parallel safe
  return 3 * case contact_point
      when 'HOUSEHOLD_PHONE' then 0 when 'HOME_PHONE' then 1 when 'WORK_PHONE' then 2 when 'CELL_PHONE' then 3
      when 'EMAIL' then 4 when 'SECONDARY_EMAIL' then 5 end
    + case method when 'VOICE' then 1 when 'TEXT' then 2 when 'EMAIL' then 3 end;

alter table change rename to change_of_one;
drop index change_revision, change_person, change_household;

-- What a change set changed. Without foreign keys: a log outlives what it tells of, and is written only by statements
-- that hold the rows it names. Rows below district.log_begins are a baseline: of each bit and of each kind they hold
-- the last change alone.
create table change (
  district_id integer not null,
  subject subject_kind not null, -- what subject_ids are: persons, households, schools, or bits of reasons
  revision bigint not null,
  bucket bigint not null, -- bucket_of every one of subject_ids
  lowest_id bigint not null, -- the first of subject_ids
  highest_id bigint not null, -- the last of subject_ids
  reasons bigint not null default 0, -- every bit that any of the masks holds for anybody
  kind change_kind not null,
  contact_point contact_point_kind, -- this and the method for PREFERENCES alone
  method method,
  turned_on bigint[], -- this and the next three are packed_masks, in the order of subject_ids
  turned_off bigint[],
  chosen bigint[], -- bits that became the person's own choice
  unchosen bigint[], -- bits that ceased to be
  -- Ascending. They stay in the row: where it is too long, PostgreSQL moves the longest array out, and of several that are
  -- as long as each other the first. So whoever looks for one person sees without another read whether a row names them.
  subject_ids bigint[] not null
);

alter table change
  -- Compressing the arrays takes half the time of writing a chunk of a run, and of masks that all differ more than that.
  set (toast_tuple_target = 8160),
  alter column subject_ids set storage external,
  alter column turned_on set storage external,
  alter column turned_off set storage external,
  alter column chosen set storage external,
  alter column unchosen set storage external;

insert into change (district_id, revision, subject, bucket, kind, contact_point, method, subject_ids,
  turned_on, turned_off, chosen, unchosen, reasons, lowest_id, highest_id)
select district_id, revision, subject, bucket_of(subject_id), kind, contact_point, method,
  array_agg(subject_id order by subject_id),
  packed_masks(array_agg(turned_on order by subject_id)),
  packed_masks(array_agg(turned_off order by subject_id)),
  packed_masks(array_agg(chosen order by subject_id)),
  packed_masks(array_agg(unchosen order by subject_id)),
  bit_or(turned_on | turned_off | chosen | unchosen), min(subject_id), max(subject_id)
from (
  -- A row could name a person and their household at once: then it tells of both.
  select c.district_id, c.revision, s.subject, s.subject_id, c.kind, c.contact_point, c.method,
    bit_or(c.turned_on) as turned_on, bit_or(c.turned_off) as turned_off, bit_or(c.chosen) as chosen,
    bit_or(c.unchosen) as unchosen
  from change_of_one c
  cross join lateral (
    values ('PERSON'::subject_kind, c.person_id), ('HOUSEHOLD', c.household_id)
  ) as s (subject, subject_id)
  where s.subject_id is not null
  group by c.district_id, c.revision, s.subject, s.subject_id, c.kind, c.contact_point, c.method
) one
group by district_id, revision, subject, bucket_of(subject_id), kind, contact_point, method
order by district_id, revision, subject, bucket_of(subject_id), kind, contact_point, method;
drop table change_of_one;

create index change_revision on change (district_id, revision, subject, bucket);
-- The last two columns skip, in the index, the rows that cannot name an id.
create index change_bucket on change (district_id, subject, bucket, revision, lowest_id, highest_id);

-- The log, a row for each person, household, school or reason. Who looks for one of them also names its bucket, and
-- that lowest_id <= id <= highest_id: then the index finds the rows, and only these are unpacked. `|| '{}'` decompresses
-- an array once for its row, not once for each id: the ids are taken from there too, so that this comes first.
create view subject_change as
select c.district_id, c.revision, c.subject, c.bucket, c.kind, s.subject_id, c.contact_point, c.method,
  one.turned_on, one.turned_off, one.chosen, one.unchosen, c.lowest_id, c.highest_id
from change c
cross join lateral (
  select c.subject_ids || '{}'::bigint[] as subject_ids, c.turned_on || '{}'::bigint[] as turned_on,
    c.turned_off || '{}'::bigint[] as turned_off, c.chosen || '{}'::bigint[] as chosen,
    c.unchosen || '{}'::bigint[] as unchosen
  offset 0
) masks
cross join lateral unnest(masks.subject_ids) with ordinality as s (subject_id, place)
cross join lateral ( -- a subquery of its own, so that a sort above it moves masks and not the arrays
  select mask_at(masks.turned_on, s.place) as turned_on, mask_at(masks.turned_off, s.place) as turned_off,
    mask_at(masks.chosen, s.place) as chosen, mask_at(masks.unchosen, s.place) as unchosen
  offset 0
) one;

-- The log is whole from this revision on. What happened before it is folded into the baseline.
alter table district add column log_begins bigint not null default 1;
-- Whether the log no longer holds all that the run did, so that it cannot be reverted.
alter table batch_run add column folded boolean not null default false;
