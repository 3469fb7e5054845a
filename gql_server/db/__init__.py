"""The database layer: pool, statements, migrations, the embedded PostgreSQL. asyncpg is imported only here."""
