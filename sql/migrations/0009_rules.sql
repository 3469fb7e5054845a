-- What a rule says about a denial: a code for programs, words, and sometimes a remedy. And two columns of the plan in
-- plain words.

alter table batch_rule
  add column code text, -- upper case; stable, for programs
  add column remedy text; -- what a person can do about it, one sentence; null: the rule names none
update batch_rule set code = case (plugin, rule) -- the codes that these rules have now
  when ('on_record', 'on_record') then 'NO_VALUE'
  when ('opt_outs', 'opt_out') then 'OPTED_OUT'
  when ('staff_reason', 'assignment') then 'NO_ASSIGNMENT'
  else upper(rule) end;
alter table batch_rule alter column code set not null;

-- Null where a denial says nothing of its own: then the rule's code, words and remedy hold.
alter table batch_exclusion_block
  add column code text,
  add column remedy text;
create or replace view batch_exclusion as
select b.district_id, b.batch_run_id, b.rule_no, b.household, s.subject_id, b.contact_point, b.reasons, b.because,
  b.code, b.remedy
from batch_exclusion_block b
cross join lateral unnest(b.subject_ids) as s (subject_id);

-- Bits that are skipped where they are chosen when the chunk is written: the plan saw them not chosen.
alter table batch_target rename column yield_mask to skip_if_chosen;
-- Bits that become the person's own choice when they change: a revert gives a choice back.
alter table batch_target rename column choose_mask to mark_as_chosen;
