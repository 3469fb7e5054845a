-- What a revert is to do (see aim.sql): the run's bits back, but for those changed since; what was a choice becomes one
-- again. A bit that is chosen when its turn comes was changed in between, since the run took every choice away.
-- Columns: household, subject_id, contact_point, method, on_mask, off_mask, skip_if_chosen, mark_as_chosen
select household, subject_id, contact_point, method, turned_off & ~touched as on_mask, turned_on & ~touched as off_mask,
  (turned_on | turned_off) & ~touched as skip_if_chosen, unchosen & ~touched as mark_as_chosen
from undone
