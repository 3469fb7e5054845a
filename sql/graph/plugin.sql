-- Plugin: the plug-ins of the server. The server passes them in.
-- Parameters: plugins (a JSON array)
-- Columns: name, version, distribution, enabled, hooks, position
select p.*
from rows from (jsonb_to_recordset(:plugins::jsonb) as (
  name text, version text, distribution text, enabled boolean, hooks jsonb
)) with ordinality as p (name, version, distribution, enabled, hooks, position)
