-- What a run would do with each channel of {weighed}, by the decision of preference/write.sql: `flipped` bits change. Null
-- masks: as in {weighed}.
-- Parameters: district_id, contact_points (those that the run names), keep_chosen
-- Columns: household, subject_id, contact_point, method, on_mask, off_mask, reasons_chosen, flipped, kept
with held as ( -- by VOICE and EMAIL (D14), so that the contact point alone tells the channel and whose it is
  select person_id as subject_id, contact_point, reasons_on, reasons_chosen
  from preference
  where district_id = :district_id and contact_point = any (:contact_points::contact_point_kind[]) and method <> 'TEXT'
  union all
  select household_id, contact_point, reasons_on, reasons_chosen
  from household_preference
  where district_id = :district_id and contact_point = any (:contact_points::contact_point_kind[]) and method <> 'TEXT'
),
differing as (
  select w.household, subject_id, contact_point, w.method, w.on_mask, w.off_mask,
    coalesce(held.reasons_chosen, 0) as reasons_chosen,
    (w.on_mask & ~coalesce(held.reasons_on, 0)) | (w.off_mask & coalesce(held.reasons_on, 0)) as differs
  from ({weighed}) w
  left join held using (subject_id, contact_point)
  where w.on_mask | w.off_mask <> 0 or w.on_mask is null
)
select household, subject_id, contact_point, method, on_mask, off_mask, reasons_chosen,
  case when :keep_chosen then differs & ~reasons_chosen else differs end as flipped,
  case when :keep_chosen then differs & reasons_chosen else 0 end as kept
from differing
