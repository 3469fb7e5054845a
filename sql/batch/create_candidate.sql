-- What rules are asked about: the channels gathered but those barred. Goes with its table.
create temp view candidate as
select household, subject_id, contact_point, method, address, on_mask, off_mask, skip_if_chosen
from gathered where barred_by is null
