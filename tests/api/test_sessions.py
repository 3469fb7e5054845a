"""What the server remembers of the tokens that it has seen."""

from datetime import timedelta

from gql_server.api.auth import Tokens
from gql_server.api.districts import DistrictCache
from gql_server.api.sessions import Sessions
from gql_server.db.pool import Pool
from gql_server.domain.viewer import Role
from tests.support.builder import DistrictBuilder
from tests.support.server import KEY


async def test_a_padded_token_is_valid_but_not_remembered(db: Pool, district: DistrictBuilder) -> None:
    """Blanks before a token are allowed, also very many; what is remembered of all tokens stays small."""
    tokens = Tokens(KEY)
    sessions = Sessions(tokens, DistrictCache(db))
    token = tokens.issue("maple", Role.ADMIN, None, timedelta(hours=1))
    plain, padded = f"Bearer {token}", f"Bearer {' ' * 900_000}{token}"
    assert await sessions.open(plain) == await sessions.open(padded)
    assert sessions.opened(plain) is not None
    assert sessions.opened(padded) is None
