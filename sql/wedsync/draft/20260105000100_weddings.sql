-- First version: the tenant tables that the specification presumes.  It asks for row
-- level security on the two bookkeeping tables only.

create table suppliers (
  id uuid primary key default gen_random_uuid(),
  owner_user_id uuid references auth.users (id) on delete cascade,
  business_name text,
  created_at timestamptz default now()
);
create table couples (
  id uuid primary key default gen_random_uuid(),
  owner_user_id uuid references auth.users (id) on delete cascade,
  names text,
  created_at timestamptz default now()
);
create table user_profiles (
  id uuid primary key references auth.users (id) on delete cascade,
  email text,
  display_name text,
  user_type text default 'couple',
  supplier_id uuid references suppliers (id),
  couple_id uuid references couples (id),
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);
create table clients (
  id uuid primary key default gen_random_uuid(),
  supplier_id uuid references suppliers (id) on delete cascade,
  couple_id uuid references couples (id) on delete cascade,
  status text default 'active'
);
create table form_responses (
  id uuid primary key default gen_random_uuid(),
  supplier_id uuid references suppliers (id) on delete cascade,
  couple_id uuid references couples (id) on delete cascade,
  notes text,
  answers jsonb default '{}'
);
create table journey_progress (
  id uuid primary key default gen_random_uuid(),
  supplier_id uuid references suppliers (id) on delete cascade,
  couple_id uuid references couples (id) on delete cascade,
  milestone text,
  pct integer default 0
);
create table core_fields (
  id uuid primary key default gen_random_uuid(),
  couple_id uuid references couples (id) on delete cascade,
  field_key text,
  field_value text
);
create table wedding_details (
  id uuid primary key default gen_random_uuid(),
  couple_id uuid references couples (id) on delete cascade,
  venue text,
  wedding_date date
);
