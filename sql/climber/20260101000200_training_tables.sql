-- Training plans and sessions, body measurements, videos and what is watched.
-- Every row belongs to a user, and only that user sees it; published videos are the
-- exception.

create table if not exists public.training_plans (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  title text not null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index if not exists idx_training_plans_user on public.training_plans (user_id);

create table if not exists public.training_sessions (
  id uuid primary key default gen_random_uuid(),
  plan_id uuid not null references public.training_plans (id) on delete cascade,
  status text not null default 'planned'
    check (status in ('planned', 'active', 'completed', 'skipped')),
  notes text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
create index if not exists idx_training_sessions_plan
  on public.training_sessions (plan_id);

create table if not exists public.wearable_data (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  metric text not null,
  value double precision not null,
  recorded_at timestamptz not null default now()
);
create index if not exists idx_wearable_data_user
  on public.wearable_data (user_id, recorded_at);

create table if not exists public.readiness_scores (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null references auth.users (id) on delete cascade,
  score smallint not null check (score between 0 and 100),
  computed_at timestamptz not null default now()
);
create index if not exists idx_readiness_scores_user
  on public.readiness_scores (user_id, computed_at);

create table if not exists public.video_content (
  id uuid primary key default gen_random_uuid(),
  owner_user_id uuid not null references auth.users (id) on delete cascade,
  title text not null,
  bucket_id text not null default 'training-videos',
  storage_path text not null,
  is_published boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (bucket_id, storage_path)
);
create index if not exists idx_video_content_owner
  on public.video_content (owner_user_id);

create table if not exists public.content_analytics (
  id uuid primary key default gen_random_uuid(),
  content_id uuid not null references public.video_content (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  event text not null check (event in ('view', 'start', 'pause', 'complete')),
  created_at timestamptz not null default now()
);
create index if not exists idx_content_analytics_content
  on public.content_analytics (content_id);
create index if not exists idx_content_analytics_user
  on public.content_analytics (user_id);

alter table public.training_plans enable row level security;
alter table public.training_sessions enable row level security;
alter table public.wearable_data enable row level security;
alter table public.readiness_scores enable row level security;
alter table public.video_content enable row level security;
alter table public.content_analytics enable row level security;

revoke all on public.training_plans, public.training_sessions, public.wearable_data,
  public.readiness_scores, public.video_content, public.content_analytics
  from anon, authenticated;
grant select, insert, update, delete
  on public.training_plans, public.training_sessions, public.video_content
  to authenticated;
grant select, insert, delete on public.wearable_data to authenticated;
grant select on public.readiness_scores to authenticated;
grant select, insert on public.content_analytics to authenticated;
grant all on public.training_plans, public.training_sessions, public.wearable_data,
  public.readiness_scores, public.video_content, public.content_analytics
  to service_role;

drop policy if exists plans_owner_all on public.training_plans;
create policy plans_owner_all on public.training_plans
  for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

-- A session belongs to whoever owns its plan.
drop policy if exists sessions_owner_all on public.training_sessions;
create policy sessions_owner_all on public.training_sessions
  for all to authenticated
  using (exists (
    select from public.training_plans as p
    where p.id = plan_id and p.user_id = (select auth.uid())))
  with check (exists (
    select from public.training_plans as p
    where p.id = plan_id and p.user_id = (select auth.uid())));

drop policy if exists wearable_owner_select on public.wearable_data;
create policy wearable_owner_select on public.wearable_data
  for select to authenticated using (user_id = (select auth.uid()));
drop policy if exists wearable_owner_insert on public.wearable_data;
create policy wearable_owner_insert on public.wearable_data
  for insert to authenticated with check (user_id = (select auth.uid()));
drop policy if exists wearable_owner_delete on public.wearable_data;
create policy wearable_owner_delete on public.wearable_data
  for delete to authenticated using (user_id = (select auth.uid()));

-- Scores are computed by the service.
drop policy if exists readiness_owner_select on public.readiness_scores;
create policy readiness_owner_select on public.readiness_scores
  for select to authenticated using (user_id = (select auth.uid()));

drop policy if exists videos_published_or_owner_select on public.video_content;
create policy videos_published_or_owner_select on public.video_content
  for select to authenticated
  using (is_published or owner_user_id = (select auth.uid()));
drop policy if exists videos_premium_insert on public.video_content;
create policy videos_premium_insert on public.video_content
  for insert to authenticated
  with check (owner_user_id = (select auth.uid())
    and (select public.has_role((select auth.uid()), 'premium_user')));
drop policy if exists videos_owner_update on public.video_content;
create policy videos_owner_update on public.video_content
  for update to authenticated
  using (owner_user_id = (select auth.uid()))
  with check (owner_user_id = (select auth.uid()));
drop policy if exists videos_owner_delete on public.video_content;
create policy videos_owner_delete on public.video_content
  for delete to authenticated using (owner_user_id = (select auth.uid()));

-- The subquery obeys the policies of video_content: nobody counts what they cannot see.
drop policy if exists analytics_viewer_insert on public.content_analytics;
create policy analytics_viewer_insert on public.content_analytics
  for insert to authenticated
  with check (user_id = (select auth.uid())
    and exists (select from public.video_content as v where v.id = content_id));
drop policy if exists analytics_viewer_select on public.content_analytics;
create policy analytics_viewer_select on public.content_analytics
  for select to authenticated using (user_id = (select auth.uid()));

create or replace trigger update_training_plans_updated_at
  before update on public.training_plans
  for each row execute function public.update_updated_at_column();
create or replace trigger update_training_sessions_updated_at
  before update on public.training_sessions
  for each row execute function public.update_updated_at_column();
create or replace trigger update_video_content_updated_at
  before update on public.video_content
  for each row execute function public.update_updated_at_column();
