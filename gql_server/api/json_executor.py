"""The executor of mutations and subscriptions: it puts JSON that PostgreSQL made into the response unchanged."""

from typing import Any

import orjson
from graphql import Executor


class JsonFragmentExecutor(Executor[None]):
    """Does not complete values that are finished JSON.

    graphql-core would visit every value below them, which holds the event loop up for a second if there are 10,000
    rows.
    """

    def complete_value(
        self,
        return_type: Any,
        field_details_list: Any,
        info: Any,
        path: Any,
        result: Any,
        position_context: Any,
    ) -> Any:
        if isinstance(result, orjson.Fragment):
            return result
        return super().complete_value(return_type, field_details_list, info, path, result, position_context)
