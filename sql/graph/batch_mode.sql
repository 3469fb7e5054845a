-- BatchMode: the modes of the loaded plug-ins (D11). The server passes them in.
-- Parameters: modes (a JSON array)
-- Columns: position, code, label, description, filter_kind, filter_required, plugin
select m.*
from rows from (jsonb_to_recordset(:modes::jsonb) as (
  code text, label text, description text, filter_kind text, filter_required boolean, plugin text
)) with ordinality as m (code, label, description, filter_kind, filter_required, plugin, position)
