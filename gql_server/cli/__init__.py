"""The command `gql-server`."""

import sys

from gql_server.cli.app import app
from gql_server.cli.common import print_error
from gql_server.db.database_errors import explain_error
from gql_server.errors import GqlServerError, Rejected

__all__ = ["main"]


def main() -> None:
    """Run the command line. An error is printed as one line on stderr, without a traceback; the exit code is 1."""
    try:
        app()
    except Rejected as rejected:
        for error in rejected.errors:
            print_error(error.message)
        sys.exit(1)
    except GqlServerError as error:
        print_error(str(error))
        sys.exit(1)
    except Exception as error:
        print_error(explain_error(error))
        sys.exit(1)
