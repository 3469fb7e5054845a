-- Creates the temporary relations of a plan, in the order in which they come to be. They last as long as its transaction.
-- Parameters: none
-- Columns: none

-- The people selected, and through which student: null where the mode does not say. A person may have several rows, also
-- through one student.
create temp table selected (person_id bigint not null, student_id bigint) on commit drop;

-- The people selected, each once. Left empty where a run names one contact point alone: then they are listed only once.
create temp table population (person_id bigint not null) on commit drop;

-- The channels that the run's cells name, of all people selected and of their households (D14, D16, D17); of a revert,
-- those that the reverted run changed (D29). There may be millions: the columns are in the order that wastes no space, and nothing is checked that the statements see to.
create temp table all_channels (
  subject_id bigint, -- the household's id, or the person's
  on_mask bigint,
  off_mask bigint,
  -- What early rules, and an earlier plan where there is one, leave of both masks.
  planned_reasons bigint default -1,
  denied_reasons bigint default 0, -- what early rules deny, of what an earlier plan leaves of both masks
  contact_point contact_point_kind,
  method method,
  denied_by smallint, -- the number of the rule whose condition denies the whole channel
  household boolean,
  address text, -- null: none on record
  skip_if_chosen bigint, -- see batch_target; null where there is no earlier plan
  mark_as_chosen bigint -- the same; null where the run is no revert
) on commit drop;

-- The rules that are asked where the channels are found, and for which reasons: each reason has one such rule at most.
create temp table early_rule (rule_no smallint not null, reasons bigint not null) on commit drop;

-- The channels that rules are asked about.
create temp view candidate as
select household, subject_id, contact_point, method, address, on_mask, off_mask
from all_channels where denied_by is null;

-- What each rule denies: see rules/denials.sql. A rule denies a channel in one row. Code, words and remedy are null
-- where the rule's own hold.
create temp table denial (
  rule_no smallint not null,
  household boolean not null,
  subject_id bigint not null,
  contact_point contact_point_kind not null,
  method method not null,
  on_reasons bigint not null,
  off_reasons bigint not null,
  code text,
  because text,
  remedy text
) on commit drop;

-- The households that a plan which is only looked at would change, and the reasons that would change.
create temp table preview_household (household_id bigint not null, reasons bigint not null) on commit drop;
