-- Collaborative workspace: teams, documents with shares and public links, per-team storage folders, private realtime rooms
create type team_role as enum ('owner','editor','viewer');
create table teams (id uuid primary key default gen_random_uuid(), name text not null, created_at timestamptz not null default now());
create table team_members (team_id uuid references teams (id) on delete cascade, user_id uuid references auth.users (id) on delete cascade, role team_role not null default 'viewer', primary key (team_id, user_id));
create table team_invites (id uuid primary key default gen_random_uuid(), team_id uuid not null references teams (id) on delete cascade, email text not null, role team_role not null default 'viewer', invited_by uuid not null references auth.users (id), created_at timestamptz not null default now(), unique (team_id, email));
create table documents (id uuid primary key default gen_random_uuid(), team_id uuid not null references teams (id) on delete cascade, owner_id uuid not null default auth.uid() references auth.users (id), title text not null, content jsonb not null default '{}', deleted_at timestamptz);
create table document_shares (document_id uuid not null references documents (id) on delete cascade, shared_with uuid not null references auth.users (id) on delete cascade, can_edit boolean not null default false, primary key (document_id, shared_with));
create table document_comments (id uuid primary key default gen_random_uuid(), document_id uuid not null references documents (id) on delete cascade, user_id uuid not null default auth.uid() references auth.users (id), body text not null, resolved boolean not null default false);
create table share_links (token text primary key default encode(extensions.gen_random_bytes(18), 'hex'), document_id uuid not null references documents (id) on delete cascade, expires_at timestamptz);
create index on documents (team_id); create index on documents (owner_id); create index on document_shares (shared_with); create index on document_comments (document_id); create index on team_members (user_id); create index on team_invites (email); create index on share_links (document_id);
alter table teams enable row level security; alter table team_members enable row level security; alter table team_invites enable row level security; alter table documents enable row level security; alter table document_shares enable row level security; alter table document_comments enable row level security; alter table share_links enable row level security;
create function team_role_of(t uuid) returns team_role language sql stable security definer set search_path = public as $$ select role from team_members where team_id = t and user_id = auth.uid() $$;
create function is_team_member(t uuid) returns boolean language sql stable security definer set search_path = public as $$ select exists (select 1 from team_members where team_id = t and user_id = auth.uid()) $$;
create function can_read_document(d uuid) returns boolean language sql stable security definer set search_path = public as $$
  select exists (select 1 from documents x where x.id = d and x.deleted_at is null and (is_team_member(x.team_id) or exists (select 1 from document_shares s where s.document_id = x.id and s.shared_with = auth.uid()))) $$;
create function can_edit_document(d uuid) returns boolean language sql stable security definer set search_path = public as $$
  select exists (select 1 from documents x where x.id = d and x.deleted_at is null and (team_role_of(x.team_id) in ('owner','editor') or exists (select 1 from document_shares s where s.document_id = x.id and s.shared_with = auth.uid() and s.can_edit))) $$;
create function create_team(team_name text) returns uuid language plpgsql security definer set search_path = public as $$
declare t uuid; begin
  if auth.uid() is null then raise exception 'not signed in' using errcode = '42501'; end if;
  insert into teams (name) values (team_name) returning id into t;
  insert into team_members (team_id, user_id, role) values (t, auth.uid(), 'owner');
  return t; end $$;
create function accept_invite(invite uuid) returns void language plpgsql security definer set search_path = public as $$
declare i team_invites; begin
  select * into i from team_invites where id = invite and email = auth.email();
  if i.id is null then raise exception 'no such invitation' using errcode = '42501'; end if;
  insert into team_members (team_id, user_id, role) values (i.team_id, auth.uid(), i.role) on conflict (team_id, user_id) do nothing;
  delete from team_invites where id = i.id; end $$;
create function document_by_link(link text) returns table (title text, content jsonb) language sql stable security definer set search_path = public as $$
  select d.title, d.content from share_links l join documents d on d.id = l.document_id where l.token = link and (l.expires_at is null or l.expires_at > now()) and d.deleted_at is null $$;
revoke execute on function create_team(text), accept_invite(uuid) from public, anon;
create policy "team: members read" on teams for select to authenticated using (is_team_member(id));
create policy "team: owner renames" on teams for update to authenticated using (team_role_of(id) = 'owner') with check (team_role_of(id) = 'owner');
create policy "members: read" on team_members for select to authenticated using (is_team_member(team_id));
create policy "members: owner adds" on team_members for insert to authenticated with check (team_role_of(team_id) = 'owner');
create policy "members: owner changes" on team_members for update to authenticated using (team_role_of(team_id) = 'owner') with check (team_role_of(team_id) = 'owner');
create policy "members: leave" on team_members for delete to authenticated using (user_id = (select auth.uid()) or team_role_of(team_id) = 'owner');
create policy "invites: read" on team_invites for select to authenticated using (email = (select auth.email()) or team_role_of(team_id) = 'owner');
create policy "invites: create" on team_invites for insert to authenticated with check (team_role_of(team_id) = 'owner' and invited_by = (select auth.uid()));
create policy "invites: revoke" on team_invites for delete to authenticated using (team_role_of(team_id) = 'owner');
create policy "documents: read" on documents for select to authenticated using (deleted_at is null and (is_team_member(team_id) or can_read_document(id)));
create policy "documents: create" on documents for insert to authenticated with check (owner_id = (select auth.uid()) and team_role_of(team_id) in ('owner','editor'));
create policy "documents: edit" on documents for update to authenticated using (deleted_at is null and can_edit_document(id)) with check (is_team_member(team_id) or can_edit_document(id));
revoke update on documents from anon, authenticated; grant update (title, content) on documents to authenticated;
create policy "shares: read" on document_shares for select to authenticated using (shared_with = (select auth.uid()) or can_edit_document(document_id));
create policy "shares: manage" on document_shares for all to authenticated using (exists (select 1 from documents d where d.id = document_id and d.owner_id = (select auth.uid()))) with check (exists (select 1 from documents d where d.id = document_id and d.owner_id = (select auth.uid())));
create policy "comments: read" on document_comments for select to authenticated using (can_read_document(document_id));
create policy "comments: write" on document_comments for insert to authenticated with check (user_id = (select auth.uid()) and can_read_document(document_id));
create policy "comments: edit own" on document_comments for update to authenticated using (user_id = (select auth.uid()) and can_read_document(document_id)) with check (user_id = (select auth.uid()) and can_read_document(document_id));
create policy "comments: delete own" on document_comments for delete to authenticated using (user_id = (select auth.uid()));
create policy "links: editors" on share_links for all to authenticated using (can_edit_document(document_id)) with check (can_edit_document(document_id));
revoke truncate on all tables in schema public from anon, authenticated;
insert into storage.buckets (id, name, public, file_size_limit) values ('team-files', 'team-files', false, 52428800);
create policy "team files read" on storage.objects for select to authenticated using (bucket_id = 'team-files' and (storage.foldername(name))[1] in (select team_id::text from team_members where user_id = (select auth.uid())));
create policy "team files add" on storage.objects for insert to authenticated with check (bucket_id = 'team-files' and (storage.foldername(name))[1] in (select team_id::text from team_members where user_id = (select auth.uid()) and role in ('owner','editor')));
create policy "team files change" on storage.objects for update to authenticated using (bucket_id = 'team-files' and (storage.foldername(name))[1] in (select team_id::text from team_members where user_id = (select auth.uid()) and role in ('owner','editor'))) with check (bucket_id = 'team-files' and (storage.foldername(name))[1] in (select team_id::text from team_members where user_id = (select auth.uid()) and role in ('owner','editor')));
create policy "team files remove" on storage.objects for delete to authenticated using (bucket_id = 'team-files' and (storage.foldername(name))[1] in (select team_id::text from team_members where user_id = (select auth.uid()) and role = 'owner'));
create policy "room join" on realtime.messages for select to authenticated using (exists (select 1 from team_members m where m.user_id = (select auth.uid()) and (select realtime.topic()) = 'room:' || m.team_id::text));
create policy "room send" on realtime.messages for insert to authenticated with check (exists (select 1 from team_members m where m.user_id = (select auth.uid()) and m.role <> 'viewer' and (select realtime.topic()) = 'room:' || m.team_id::text));
alter publication supabase_realtime add table documents, document_comments;
