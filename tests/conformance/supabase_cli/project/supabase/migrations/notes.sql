not a migration, and not SQL
