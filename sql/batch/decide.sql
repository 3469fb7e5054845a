-- Decides what a run does with channels, from their preferences as they were read. A bit that changes is not chosen any
-- more (D18). With keep_chosen every chosen bit stays as it is; those of skip_if_chosen stay in any case if they are
-- chosen. Those of mark_as_chosen become chosen, unless they are asked for and do not change (D29).
--
-- {channel} is a SELECT of the first columns below: masks and place as in batch_target, but was_on and was_chosen 0 where
-- there is no row; and `changed`, bits that stay as they are because somebody changed them after the plan. Subjects come
-- in parts, each of which becomes a chunk.
-- Parameters: keep_chosen
-- Columns: household, part, position, subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen, was_on, was_chosen, place, changed, differs, leave (bits left alone), flipped, turned_on, turned_off, chosen, unchosen
select c.*, flipped & on_mask as turned_on, flipped & off_mask as turned_off,
  case when mark_as_chosen = 0 then 0
    else mark_as_chosen & ~was_chosen & ~leave & (flipped | ~(on_mask | off_mask)) end as chosen,
  flipped & was_chosen & ~mark_as_chosen as unchosen
from (
  select c.*, differs & ~(leave | case when :keep_chosen then was_chosen else 0 end) as flipped
  from (
    select c.*, (skip_if_chosen & was_chosen & (differs | mark_as_chosen)) | changed as leave
    from (
      select c.*, (on_mask & ~was_on) | (off_mask & was_on) as differs from ({channel}) c
    ) c
  ) c
) c
