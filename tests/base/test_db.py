"""What a service waits out and what it does not, raised by real Postgres."""

import asyncpg
import pytest

from mtad.base.db import AWAY, Pool, open_pool, without_password
from mtad.base.errors import Unavailable


async def raised(pool: Pool, sqlstate: str) -> BaseException:
    try:
        await pool.execute(f"do $$ begin raise 'as the test says' using errcode = '{sqlstate}'; end $$")
    except asyncpg.PostgresError as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    "sqlstate",
    [
        "57014",  # statement_timeout, or an operator cancelled it
        "57P01", "57P02", "57P03",  # a restart
        "57P05", "25P03",  # it idled for too long
        "53100", "53200", "53300",  # disk, memory or connections are full
        "58030",  # its disk has an error
        "40001", "40P01",  # lost against others
        "25006",  # a standby since a failover
        "08006",
    ],
)  # fmt: skip
async def test_what_a_database_raises_that_cannot_serve_us_now_is_waited_out(pool: Pool, sqlstate: str) -> None:
    assert isinstance(await raised(pool, sqlstate), AWAY)


@pytest.mark.parametrize("sqlstate", ["23505", "42703", "22021"])
async def test_a_defect_of_ours_is_not_waited_out(pool: Pool, sqlstate: str) -> None:
    assert not isinstance(await raised(pool, sqlstate), AWAY)


def test_a_connection_that_is_lost_inside_an_exchange_is_waited_out() -> None:
    # asyncpg.InternalClientError: cannot switch to state 15; another operation (2) is in progress
    assert issubclass(asyncpg.InternalClientError, AWAY)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:pa/ss@h/db", "postgresql://me@h/db"),
        ("postgresql://me:pa?ss@h:1/db", "postgresql://me@h:1/db"),
        (
            "postgresql://h:x/db?password=pass&sslpassword=pass&a=b",
            "postgresql://h:x/db?password=…&sslpassword=…&a=b",
        ),
    ],
)
async def test_a_wrong_url_is_one_line_and_shows_no_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
    with pytest.raises(Unavailable) as refused:
        await open_pool(url)

    assert str(refused.value) == f"database {shown}: is no URL of a database"
