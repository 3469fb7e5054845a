-- Every day is from 1900-01-01 to 2199-12-31, and an open start or end is null. What other systems write for open,
-- 0001-01-01 and 9999-12-31, was kept as infinite days, which no answer can show. Who is active on a day of that time
-- stays so: a start before it is an open one, an end after it too, and others move to its edge.

update calendar set
  start_date = case when start_date >= '1900-01-01' then least(start_date, '2199-12-31') end,
  end_date = case when end_date <= '2199-12-31' then greatest(end_date, '1900-01-01') end
where start_date not between '1900-01-01' and '2199-12-31' or end_date not between '1900-01-01' and '2199-12-31';
alter table calendar
  add constraint calendar_start check (start_date between '1900-01-01' and '2199-12-31'),
  add constraint calendar_end check (end_date between '1900-01-01' and '2199-12-31');

update household_member set
  start_date = case when start_date >= '1900-01-01' then least(start_date, '2199-12-31') end,
  end_date = case when end_date <= '2199-12-31' then greatest(end_date, '1900-01-01') end
where start_date not between '1900-01-01' and '2199-12-31' or end_date not between '1900-01-01' and '2199-12-31';
alter table household_member
  add constraint household_member_start check (start_date between '1900-01-01' and '2199-12-31'),
  add constraint household_member_end check (end_date between '1900-01-01' and '2199-12-31');

update enrollment set
  start_date = case when start_date >= '1900-01-01' then least(start_date, '2199-12-31') end,
  end_date = case when end_date <= '2199-12-31' then greatest(end_date, '1900-01-01') end
where start_date not between '1900-01-01' and '2199-12-31' or end_date not between '1900-01-01' and '2199-12-31';
alter table enrollment
  add constraint enrollment_start check (start_date between '1900-01-01' and '2199-12-31'),
  add constraint enrollment_end check (end_date between '1900-01-01' and '2199-12-31');

update district_assignment set
  start_date = case when start_date >= '1900-01-01' then least(start_date, '2199-12-31') end,
  end_date = case when end_date <= '2199-12-31' then greatest(end_date, '1900-01-01') end
where start_date not between '1900-01-01' and '2199-12-31' or end_date not between '1900-01-01' and '2199-12-31';
alter table district_assignment
  add constraint district_assignment_start check (start_date between '1900-01-01' and '2199-12-31'),
  add constraint district_assignment_end check (end_date between '1900-01-01' and '2199-12-31');

update relationship set
  start_date = case when start_date >= '1900-01-01' then least(start_date, '2199-12-31') end,
  end_date = case when end_date <= '2199-12-31' then greatest(end_date, '1900-01-01') end
where start_date not between '1900-01-01' and '2199-12-31' or end_date not between '1900-01-01' and '2199-12-31';
alter table relationship
  add constraint relationship_start check (start_date between '1900-01-01' and '2199-12-31'),
  add constraint relationship_end check (end_date between '1900-01-01' and '2199-12-31');
