-- What each token of the files stands for; `conflicts` reports a token that stands for two things.
-- Parameters: none
insert into import_identity (token, kind, key)
select distinct on (token) token, kind, key from import_id order by token, file, line
