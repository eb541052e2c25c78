-- What the first version takes for granted and does not define: content and account
-- tables, roles, and two helper functions.  Nothing in it asks for row level security,
-- so there is none; Supabase's default grants apply.

create table user_profiles (
  id uuid primary key references auth.users (id) on delete cascade,
  email text,
  display_name text,
  profile_image_url text,
  user_type text not null default 'climber',
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);

create table user_roles (
  user_id uuid references auth.users (id) on delete cascade,
  role text,
  primary key (user_id, role)
);

create table training_plans (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  title text not null,
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);

create table training_sessions (
  id uuid primary key default gen_random_uuid(),
  plan_id uuid not null references training_plans (id) on delete cascade,
  status text not null default 'planned',
  notes text,
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);

create table wearable_data (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  metric text not null,
  value double precision not null,
  recorded_at timestamptz default now()
);

create table readiness_scores (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  score smallint not null,
  computed_at timestamptz default now()
);

create table video_content (
  id uuid primary key default gen_random_uuid(),
  owner_user_id uuid not null references auth.users (id) on delete cascade,
  title text not null,
  bucket_id text not null default 'training-videos',
  storage_path text not null,
  is_published boolean not null default false,
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);

create table content_analytics (
  id uuid primary key default gen_random_uuid(),
  content_id uuid not null references video_content (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  event text not null,
  created_at timestamptz default now()
);

create function has_role(p_user_id uuid, p_role text)
returns boolean
language sql stable security definer
as $$
  select exists (select from user_roles where user_id = p_user_id and role = p_role);
$$;

create function update_updated_at_column()
returns trigger
language plpgsql
as $$
begin
  new.updated_at := now();
  return new;
end;
$$;
