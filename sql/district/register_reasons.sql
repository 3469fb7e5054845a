-- Gives every district a bit, the next free one, for each reason that it lacks, keeps the words up to date,
-- and switches a new TEACHER off on every phone (D3, D15). Run after district/lock_lacking, which makes two at once wait.
-- Parameters: codes, labels, descriptions, plugins (arrays of one length)
-- Columns: count (of the reasons added)
with wanted as (
  select * from unnest(:codes::text[], :labels::text[], :descriptions::text[], :plugins::text[])
    with ordinality as w (code, label, description, plugin, position)
),
lacking as (
  select d.district_id, w.*,
    row_number() over (partition by d.district_id order by w.position) as n,
    (select coalesce(max(bit), -1) from contact_reason r where r.district_id = d.district_id) as last_bit
  from district d cross join wanted w
  where not exists (
    select from contact_reason r where r.district_id = d.district_id and r.code = w.code)
),
added as (
  insert into contact_reason (district_id, code, bit, label, description, plugin)
  select district_id, code, last_bit + n, label, description, plugin from lacking
  returning district_id, code
),
reworded as (
  update contact_reason r set label = w.label, description = w.description, plugin = w.plugin
  from wanted w
  where r.code = w.code
    and (r.label, r.description, r.plugin) is distinct from (w.label, w.description, w.plugin)
),
switched_off as (
  insert into disabled_cell (district_id, contact_point, reason)
  select a.district_id, phone.kind, a.code
  from added a
  cross join unnest('{HOUSEHOLD_PHONE,HOME_PHONE,WORK_PHONE,CELL_PHONE}'::contact_point_kind[]) as phone (kind)
  where a.code = 'TEACHER'
)
select count(*) from added
