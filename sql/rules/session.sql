-- Returns the session's role and all settings made since it began, as one text: two texts are equal if nothing was set in
-- between. Names are qualified, because the search path may be what was set.
-- Parameters: none
-- Columns: session
select pg_catalog.concat_ws(' ', current_user, session_user,
  (select pg_catalog.string_agg(s.name operator(pg_catalog.||) '=' operator(pg_catalog.||) s.setting, ' ' order by s.name)
   from pg_catalog.pg_settings s
   where s.source operator(pg_catalog.=) 'session' and s.name operator(pg_catalog.<>) 'transaction_read_only')) as session
