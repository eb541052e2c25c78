-- AI chat starter with usage quotas
create type plan as enum ('free', 'pro', 'team');
create type message_role as enum ('user', 'assistant', 'system');
create type visibility as enum ('private', 'public');

create table profiles (
  id uuid primary key references auth.users on delete cascade,
  email text unique,
  plan plan not null default 'free',
  credits int not null default 50 check (credits >= 0),
  settings jsonb not null default '{}'
);
create table chats (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null default auth.uid() references profiles on delete cascade,
  title text, visibility visibility not null default 'private',
  created_at timestamptz not null default now()
);
create table messages (
  id uuid primary key default gen_random_uuid(),
  chat_id uuid not null references chats on delete cascade,
  role message_role not null default 'user',
  content text not null,
  tokens int generated always as (length(content) / 4) stored,
  created_at timestamptz not null default now()
);
create table votes (
  chat_id uuid not null references chats on delete cascade,
  message_id uuid not null references messages on delete cascade,
  is_upvoted boolean not null,
  primary key (chat_id, message_id)
);
create table api_keys (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null default auth.uid() references profiles on delete cascade,
  name text not null, hashed_key text not null unique, last_four char(4),
  revoked_at timestamptz
);
create table prompts (
  id int primary key generated always as identity,
  owner_id uuid references profiles on delete cascade default auth.uid(),
  body text not null, visibility visibility not null default 'private', uses int not null default 0
);
create table usage_events (
  user_id uuid not null references profiles on delete cascade,
  at timestamptz not null default now(),
  model text not null, tokens int not null check (tokens >= 0),
  id bigint generated always as identity,
  primary key (id, at)
) partition by range (at);
create table usage_events_2026 partition of usage_events for values from ('2026-01-01') to ('2027-01-01');
create table usage_events_rest partition of usage_events default;
create table documents (
  id uuid default gen_random_uuid(), created_at timestamptz default now(),
  user_id uuid not null references profiles on delete cascade,
  title text, content text,
  primary key (id, created_at)
);
create index on chats (user_id); create index on messages (chat_id); create index on api_keys (user_id); create index on prompts (owner_id);
create index on usage_events (user_id); create index on documents (user_id); create index on votes (message_id);

create or replace function handle_new_user() returns trigger language plpgsql security definer set search_path = public as $$
begin
  insert into public.profiles (id, email) values (new.id, new.email) on conflict (id) do nothing;
  return new;
end; $$;
create trigger on_auth_user_created after insert on auth.users for each row execute procedure handle_new_user();

create or replace function keep_plan() returns trigger language plpgsql as $$
begin
  if auth.role() in ('authenticated', 'anon') and current_user <> 'postgres' then
    new.plan := old.plan;
    new.credits := old.credits;
    new.email := old.email;
  end if;
  return new;
end; $$;
create trigger keep_plan before update on profiles for each row execute procedure keep_plan();

create or replace function consume_credits(amount int, model text) returns int language plpgsql security definer set search_path = public as $$
declare left_over int;
begin
  if amount <= 0 then raise exception 'amount must be positive' using errcode = '22023'; end if;
  update profiles set credits = credits - amount where id = auth.uid() and credits >= amount returning credits into left_over;
  if left_over is null then raise exception 'quota exceeded' using errcode = 'P0001'; end if;
  insert into usage_events (user_id, model, tokens) values (auth.uid(), model, amount);
  return left_over;
end; $$;
create or replace function grant_credits(target uuid, amount int) returns void language sql security definer set search_path = public as $$
  update profiles set credits = credits + amount where id = target;
$$;
create or replace function usage_summary() returns table (model text, tokens bigint) language sql stable security invoker as $$
  select e.model, sum(e.tokens) from usage_events e where e.user_id = auth.uid() group by e.model;
$$;
create or replace function clone_chat(source uuid) returns uuid language plpgsql security definer set search_path = public as $$
declare copy uuid;
begin
  if not exists (select 1 from chats where id = source and (user_id = auth.uid() or visibility = 'public')) then
    raise exception 'chat not found' using errcode = 'P0002';
  end if;
  insert into chats (user_id, title) select auth.uid(), title from chats where id = source returning id into copy;
  insert into messages (chat_id, role, content) select copy, m.role, m.content from messages m where m.chat_id = source;
  return copy;
end; $$;
revoke execute on function consume_credits(int, text), grant_credits(uuid, int), clone_chat(uuid) from public, anon, authenticated;
grant execute on function consume_credits(int, text), clone_chat(uuid) to authenticated;

alter table profiles enable row level security; alter table chats enable row level security; alter table messages enable row level security;
alter table votes enable row level security; alter table api_keys enable row level security; alter table prompts enable row level security;
alter table usage_events enable row level security; alter table usage_events_2026 enable row level security; alter table usage_events_rest enable row level security;
alter table documents enable row level security;

create policy "own profile" on profiles for select using ((select auth.uid()) = id);
create policy "edit own profile" on profiles for update using ((select auth.uid()) = id) with check ((select auth.uid()) = id);
create policy "own chats" on chats for all to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy "public chats" on chats for select to anon, authenticated using (visibility = 'public');
create policy "read messages" on messages for select to anon, authenticated using (chat_id in (select id from chats));
create policy "write messages" on messages for insert to authenticated with check (role = 'user' and chat_id in (select id from chats where user_id = (select auth.uid())));
create policy "delete messages" on messages for delete to authenticated using (chat_id in (select id from chats where user_id = (select auth.uid())));
create policy "votes" on votes for all to authenticated
  using (exists (select 1 from chats c where c.id = votes.chat_id and c.user_id = auth.uid()))
  with check (exists (select 1 from chats c join messages m on m.chat_id = c.id where c.id = votes.chat_id and m.id = votes.message_id and c.user_id = auth.uid()));
create policy "keys" on api_keys for select to authenticated using (user_id = auth.uid());
create policy "keys add" on api_keys for insert to authenticated with check (user_id = auth.uid());
create policy "keys revoke" on api_keys for update to authenticated using (user_id = auth.uid()) with check (user_id = auth.uid());
create policy "no keys for guests" on api_keys as restrictive for all to authenticated
  using (coalesce((auth.jwt() ->> 'is_anonymous')::boolean, false) is false) with check (coalesce((auth.jwt() ->> 'is_anonymous')::boolean, false) is false);
create policy "prompts read" on prompts for select using (visibility = 'public' or owner_id = auth.uid());
create policy "prompts write" on prompts for insert to authenticated with check (owner_id = auth.uid());
create policy "prompts edit" on prompts for update to authenticated using (owner_id = auth.uid()) with check (owner_id = auth.uid());
create policy "prompts delete" on prompts for delete to authenticated using (owner_id = auth.uid());
create policy "usage" on usage_events for select to authenticated using (user_id = (select auth.uid()));
create policy "documents" on documents for all to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

revoke truncate on all tables in schema public from anon, authenticated;
revoke insert, update, delete on usage_events, usage_events_2026, usage_events_rest from anon, authenticated;
revoke insert, delete on profiles from anon, authenticated;
revoke update on api_keys, prompts from anon, authenticated;
grant update (name, revoked_at) on api_keys to authenticated;
grant update (body, visibility) on prompts to authenticated;

insert into storage.buckets (id, name, public, file_size_limit) values ('attachments', 'attachments', false, 10485760);
create policy "attachments of own chats" on storage.objects for all to authenticated
  using (bucket_id = 'attachments' and owner_id = (select auth.uid())::text and (storage.foldername(name))[1] = (select auth.uid())::text)
  with check (bucket_id = 'attachments' and (storage.foldername(name))[1] = (select auth.uid())::text);
create policy "stream own chat" on realtime.messages for select to authenticated
  using (extension = 'broadcast' and exists (select 1 from public.chats c where c.user_id = (select auth.uid()) and 'chat-' || c.id::text = realtime.topic()));
alter publication supabase_realtime add table messages;
