"""PostgreSQL: the pool, the statements of `sql/`, migrations, the embedded server. asyncpg appears only here."""
