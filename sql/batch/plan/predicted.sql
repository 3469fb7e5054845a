-- Predicts what a run would do with each channel of {allowed}, by the decision of batch/write_chunk.sql, where {current}
-- gives the preferences as they are: `flipped` reasons change, `skip_if_chosen` are those that are not chosen now. Null
-- masks: as in {allowed}.
-- Parameters: keep_chosen
-- Columns: household, subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen, flipped, kept
with differing as (
  select a.household, subject_id, contact_point, a.method, a.on_mask, a.off_mask,
    coalesce(p.reasons_chosen, 0) as reasons_chosen,
    (a.on_mask & ~coalesce(p.reasons_on, 0)) | (a.off_mask & coalesce(p.reasons_on, 0)) as differs
  from ({allowed}) a
  left join ({current}) p using (subject_id, contact_point) -- the contact point tells people from households
  where a.on_mask | a.off_mask <> 0 or a.on_mask is null
)
select household, subject_id, contact_point, method, on_mask, off_mask,
  (on_mask | off_mask) & ~reasons_chosen as skip_if_chosen,
  case when :keep_chosen then differs & ~reasons_chosen else differs end as flipped,
  case when :keep_chosen then differs & reasons_chosen else 0 end as kept
from differing
