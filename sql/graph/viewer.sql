-- Viewer: who is asking, and whether they may change their own preferences, or else why not. An administrator sets
-- anybody's preferences (D22), and so their own if the token names a person. There is no other way to set them
-- yet.
-- Parameters: viewer_role, viewer_person_id
-- Columns: role, person_id, can_change_own_preferences, why_not
select v.role, v.person_id, v.why_not is null as can_change_own_preferences, v.why_not
from (
  select :viewer_role as role, me.person_id,
    case
      when :viewer_role = 'VENDOR' then 'A vendor reads preferences and changes none.'
      when me.person_id is null and :viewer_role = 'ADMIN'
        then 'This token stands for nobody who has preferences. `setPreferences` sets other people''s.'
      when me.person_id is null then 'Nobody of this district belongs to this token.'
      when :viewer_role <> 'ADMIN'
        then 'Preferences cannot be changed here. Ask the district''s office: an administrator can set them.'
    end as why_not
  from (select :viewer_person_id as person_id) me
) v
