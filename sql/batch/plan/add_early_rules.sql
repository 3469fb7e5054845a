-- Records the rules that are asked where the channels are found.
-- Parameters: rule_nos, reasons (arrays of one length)
-- Columns: none
insert into early_rule (rule_no, reasons)
select * from unnest(:rule_nos::smallint[], :reasons::bigint[])
