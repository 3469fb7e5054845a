-- Asks a condition, alone, about one channel of the selected people or households. {denied_by} is, for such a channel `c`,
-- the number of the rule if its condition denies it whole, or null. What an earlier condition denies is not asked about.
-- Parameters: district_id, today, contact_point
-- Columns: none
update all_channels c set denied_by = {denied_by}
where c.contact_point = :contact_point and c.denied_by is null
