-- What a run would do with each channel of {weighed}, by the decision of preference/write.sql, given what is {held}:
-- `flipped` bits change, `skip_if_chosen` are those that are not chosen now. Null masks: as in {weighed}.
-- Parameters: keep_chosen
-- Columns: household, subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen, flipped, kept
with differing as (
  select w.household, subject_id, contact_point, w.method, w.on_mask, w.off_mask,
    coalesce(held.reasons_chosen, 0) as reasons_chosen,
    (w.on_mask & ~coalesce(held.reasons_on, 0)) | (w.off_mask & coalesce(held.reasons_on, 0)) as differs
  from ({weighed}) w
  left join ({held}) held using (subject_id, contact_point) -- the contact point tells people from households
  where w.on_mask | w.off_mask <> 0 or w.on_mask is null
)
select household, subject_id, contact_point, method, on_mask, off_mask,
  (on_mask | off_mask) & ~reasons_chosen as skip_if_chosen,
  case when :keep_chosen then differs & ~reasons_chosen else differs end as flipped,
  case when :keep_chosen then differs & reasons_chosen else 0 end as kept
from differing
