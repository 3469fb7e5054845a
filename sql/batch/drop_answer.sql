-- Makes room for the answers of the next rule.
drop table answer
