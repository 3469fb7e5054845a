"""The command `gql-server`."""

import sys

from gql_server.cli.app import app
from gql_server.cli.common import complain
from gql_server.db.database_errors import explain_error
from gql_server.errors import GqlServerError, Rejected

__all__ = ["main"]


def main() -> None:
    """Run the command line. What goes wrong is one line on stderr and exit code 1, never a traceback."""
    try:
        app()
    except Rejected as rejected:
        for error in rejected.errors:
            complain(error.message)
        sys.exit(1)
    except GqlServerError as error:
        complain(str(error))
        sys.exit(1)
    except Exception as error:
        complain(explain_error(error))
        sys.exit(1)
