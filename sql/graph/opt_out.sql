-- OptOut: the opt-outs (D19). A portal user sees those for an address of their own, or for the phone of a
-- household of which they are an active member (D27).
-- Parameters: district_id, viewer_sees_all, viewer_person_id
-- Columns: opt_out_id, id, address, method, reasons, source, evidence, recorded_at, lifted_at
select o.opt_out_id, 'optout_' || o.opt_out_id as id, o.address, o.method,
  case when o.reasons is not null then
    (select coalesce(json_agg(r.code order by r.bit), '[]') from reason r where o.reasons & r.mask <> 0) end as reasons,
  o.source, o.evidence, o.recorded_at, o.lifted_at
from opt_out o
where o.district_id = :district_id
  and (:viewer_sees_all
    or o.address in (
      select c.value from contact_point c where c.district_id = :district_id and c.person_id = :viewer_person_id)
    or o.address in (
      select h.phone from household h
      where h.district_id = :district_id
        and h.household_id in (select household_id from viewer_household where own)))
