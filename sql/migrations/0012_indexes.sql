-- What reads need whose time must not grow with the district.

-- Names for the search of people, which compares the beginning in lower case. The order of people follows, so that what
-- is found is read from the index alone.
create index person_last_name_start on person
  (district_id, lower(last_name) text_pattern_ops, last_name, first_name, person_id);
create index person_first_name_start on person
  (district_id, lower(first_name) text_pattern_ops, last_name, first_name, person_id);

-- The order of `households`.
create index household_name on household (district_id, name, household_id);

-- Grades as they are compared (D32): without zeros before the rest.
create index enrollment_grade on enrollment
  (district_id, (coalesce(nullif(ltrim(grade, '0'), ''), right(grade, 1))), person_id);

-- Relationships that are marked no-contact: few are (D31).
create index relationship_no_contact on relationship (district_id, contact_id, student_id) where no_contact;

-- The staff of a school.
create index district_assignment_school on district_assignment (district_id, school_id, person_id);

-- Exclusions are read by block and place. The blocks of a run are numbered in the order of reading, from 1.
alter table batch_exclusion_block
  add column block integer,
  -- How many people or households the block has: known without reading the list.
  add column subjects integer not null generated always as (cardinality(subject_ids)) stored;
update batch_exclusion_block b set block = numbered.block
from (
  select ctid, row_number() over (
    partition by district_id, batch_run_id
    order by rule_no, household, subject_ids[1], contact_point, reasons, code, because, remedy) as block
  from batch_exclusion_block
) numbered
where numbered.ctid = b.ctid;
alter table batch_exclusion_block add primary key (district_id, batch_run_id, block);
drop index batch_exclusion_run;
-- Compressing the lists takes a third of the time in which they are written.
alter table batch_exclusion_block alter column subject_ids set storage external;
create or replace view batch_exclusion as
select b.district_id, b.batch_run_id, b.rule_no, b.household, s.subject_id, b.contact_point, b.reasons, b.because,
  b.code, b.remedy, b.block, s.place
from batch_exclusion_block b
cross join lateral unnest(b.subject_ids) with ordinality as s (subject_id, place);

-- The last revision of a district before a moment, or 0. Change sets are not quite in the order of time, because each has
-- the time at which its transaction began. So that no change set of a time is left out, the caller asks for a moment
-- that is a day away from it: a transaction takes less than a day. It reads some twenty change sets, however many there
-- are.
create function revision_before(district integer, moment timestamptz) returns bigint
  language sql stable parallel safe
begin atomic
  with recursive between_two (low, high) as (
    -- What was before the moment, and what was not. Revisions that were folded away are between others.
    select 0::bigint, 1 + coalesce((select max(s.revision) from change_set s where s.district_id = district), 0)
    union all
    select case when next.at < moment then next.revision else b.low end,
      case when next.at < moment then b.high else (b.low + b.high) / 2 end
    from between_two b
    left join lateral (
      select s.revision, s.at
      from change_set s
      where s.district_id = district and s.revision >= (b.low + b.high) / 2 and s.revision < b.high
      order by s.revision
      limit 1
    ) next on true
    where b.high - b.low > 1
  )
  select max(low) from between_two;
end;
