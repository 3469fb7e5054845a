"""`python -m gql_server`: the same as the command `gql-server`."""

from gql_server.cli import main

main()
