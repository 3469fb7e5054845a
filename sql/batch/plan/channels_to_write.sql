-- Lists the channels of {allowed}, of people or of households, with anything to do, with the preferences as they are now,
-- which {current} gives, in parts of :size subjects in key order: the {channel} of batch/decide.
-- Parameters: household, size
-- Columns: household, part (from 0), position (of the subject in its part, from 1), subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen, was_on, was_chosen, place, changed
select :household::boolean as household, place_of_subject / :size::integer as part,
  place_of_subject % :size::integer + 1 as position, subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen,
  mark_as_chosen, was_on, was_chosen, place, 0::bigint as changed
from (
  select subject_id, contact_point, a.method, a.on_mask, a.off_mask, a.skip_if_chosen, a.mark_as_chosen,
    coalesce(p.reasons_on, 0) as was_on, coalesce(p.reasons_chosen, 0) as was_chosen, p.place,
    dense_rank() over (order by subject_id) - 1 as place_of_subject
  from ({allowed}) a
  left join ({current}) p using (subject_id, contact_point)
  where a.on_mask | a.off_mask | a.mark_as_chosen <> 0 or a.on_mask is null -- null: no candidate
) a
