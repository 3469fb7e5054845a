-- Predicts what a run would do with each channel of {allowed}: {decided} is batch/decide over them.
-- `skip_if_chosen` are the reasons of which it overwrites no choice: whoever chooses one of these before the run is applied
-- keeps it. Null masks: as in {allowed}.
-- Parameters: keep_chosen
-- Columns: household, subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen, flipped, kept
select household, subject_id, contact_point, method, on_mask, off_mask,
  (on_mask | off_mask) & ~(differs & was_chosen) as skip_if_chosen, flipped, case when :keep_chosen then differs & was_chosen else 0 end as kept
from ({decided}) d
