-- Lists the channels of {allowed} with anything to do, with the preferences as they are now, which {current} gives, in
-- parts of :size people, and of :size households, in key order: the {channel} of batch/decide.
-- Parameters: size
-- Columns: household, part (from 0), position (of the subject in its part, from 1), subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen, was_on, was_chosen, place, changed
select household, position / :size::integer as part, position % :size::integer + 1 as position, subject_id, contact_point,
  method, on_mask, off_mask, skip_if_chosen, mark_as_chosen, was_on, was_chosen, place, 0::bigint as changed
from (
  select a.household, subject_id, contact_point, a.method, a.on_mask, a.off_mask, a.skip_if_chosen, a.mark_as_chosen,
    coalesce(p.reasons_on, 0) as was_on, coalesce(p.reasons_chosen, 0) as was_chosen, p.place,
    dense_rank() over (partition by a.household order by subject_id) - 1 as position
  from ({allowed}) a
  left join ({current}) p using (subject_id, contact_point) -- the contact point tells people from households
  where a.on_mask | a.off_mask | a.mark_as_chosen <> 0 or a.on_mask is null -- null: no candidate
) a
