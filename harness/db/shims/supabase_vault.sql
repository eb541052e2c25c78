-- Stand-in for extension supabase_vault: schema vault with its table, view and functions
-- is made by the platform's file of roles, so that there is nothing left to do.

do $$ begin end $$;
