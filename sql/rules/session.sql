-- What holds in the session: its role and all that was set since it began, as one text that is equal where nothing else
-- is set. Names are qualified, since the path in which they are looked for may be what was set.
-- Parameters: none
-- Columns: session
select pg_catalog.concat_ws(' ', current_user, session_user,
  (select pg_catalog.string_agg(s.name operator(pg_catalog.||) '=' operator(pg_catalog.||) s.setting, ' ' order by s.name)
   from pg_catalog.pg_settings s
   where s.source operator(pg_catalog.=) 'session' and s.name operator(pg_catalog.<>) 'transaction_read_only')) as session
