-- notes app: workspaces, nested pages, guests by page, public share links
create schema app;
create type app.member_role as enum ('owner','editor','viewer');
create type app.share_level as enum ('view','comment','edit');

create table profiles (
  id uuid primary key references auth.users(id) on delete cascade,
  full_name text, avatar_url text, updated_at timestamptz default now()
);
create table workspaces (
  id uuid primary key default gen_random_uuid(),
  name text not null check (length(trim(name)) > 0),
  owner_id uuid not null default auth.uid() references profiles(id),
  created_at timestamptz not null default now()
);
create table workspace_members (
  workspace_id uuid not null references workspaces(id) on delete cascade,
  user_id uuid not null references profiles(id) on delete cascade,
  role app.member_role not null default 'viewer',
  primary key (workspace_id, user_id)
);
create table pages (
  id uuid primary key default gen_random_uuid(),
  workspace_id uuid not null references workspaces(id) on delete cascade,
  parent_id uuid,
  title text not null default 'Untitled',
  content jsonb not null default '{}'::jsonb,
  is_private boolean not null default false,
  created_by uuid not null default auth.uid() references profiles(id),
  deleted_at timestamptz,
  search tsvector generated always as (to_tsvector('simple'::regconfig, title)) stored,
  unique (workspace_id, id),
  foreign key (workspace_id, parent_id) references pages(workspace_id, id) on delete cascade
);
create table page_permissions (
  page_id uuid not null references pages(id) on delete cascade,
  user_id uuid not null references profiles(id) on delete cascade,
  level app.share_level not null default 'view',
  primary key (page_id, user_id)
);
create table share_links (
  id uuid primary key default gen_random_uuid(),
  page_id uuid not null references pages(id) on delete cascade,
  token text not null unique default replace(gen_random_uuid()::text, '-', ''),
  created_by uuid not null default auth.uid() references profiles(id),
  expires_at timestamptz,
  revoked boolean not null default false
);
create table page_comments (
  id bigserial primary key,
  page_id uuid not null references pages(id) on delete cascade,
  author_id uuid not null default auth.uid() references profiles(id) on delete cascade,
  body text not null,
  resolved boolean not null default false,
  created_at timestamptz not null default now()
);
create table favorites (
  user_id uuid not null default auth.uid() references profiles(id) on delete cascade,
  page_id uuid not null references pages(id) on delete cascade,
  position int not null default 0,
  primary key (user_id, page_id)
);
create table page_revisions (
  id bigserial primary key,
  page_id uuid not null references pages(id) on delete cascade,
  content jsonb not null,
  edited_by uuid references profiles(id) on delete set null,
  edited_at timestamptz not null default now()
);
create index on workspace_members(user_id);
create index on pages(workspace_id, parent_id);
create index on pages(created_by);
create index on page_permissions(user_id);
create index on share_links(page_id);
create index on page_comments(page_id);
create index on favorites(page_id);
create index on page_revisions(page_id);
create index on workspaces(owner_id);

create function app.role_in(ws uuid) returns app.member_role language sql stable security definer set search_path = '' as $$
  select m.role from public.workspace_members m where m.workspace_id = ws and m.user_id = (select auth.uid())
$$;
create function app.can_view(p uuid) returns boolean language sql stable security definer set search_path = '' as $$
  with recursive up as (
    select id, parent_id from public.pages where id = p
    union
    select g.id, g.parent_id from public.pages g join up on g.id = up.parent_id
  )
  select exists (
      select 1 from public.pages g where g.id = p
        and (g.created_by = auth.uid() or (not g.is_private and app.role_in(g.workspace_id) is not null)))
    or exists (select 1 from public.page_permissions s join up on up.id = s.page_id where s.user_id = auth.uid())
$$;
create function app.can_edit(p uuid) returns boolean language sql stable security definer set search_path = '' as $$
  select exists (
      select 1 from public.pages g where g.id = p
        and (g.created_by = auth.uid() or (not g.is_private and app.role_in(g.workspace_id) in ('owner','editor'))))
    or exists (select 1 from public.page_permissions s where s.page_id = p and s.user_id = auth.uid() and s.level = 'edit')
$$;
create function app.can_manage(p uuid) returns boolean language sql stable security definer set search_path = '' as $$
  select exists (select 1 from public.pages g where g.id = p and (g.created_by = auth.uid() or (not g.is_private and app.role_in(g.workspace_id) = 'owner')))
$$;
grant usage on schema app to anon, authenticated, service_role;
revoke execute on all functions in schema app from public;
grant execute on all functions in schema app to authenticated, service_role;

create function app.new_user() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.profiles (id, full_name, avatar_url)
  values (new.id, new.raw_user_meta_data->>'full_name', new.raw_user_meta_data->>'avatar_url');
  return new;
end $$;
create trigger on_auth_user_created after insert on auth.users for each row execute function app.new_user();

create function app.workspace_owner() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.workspace_members (workspace_id, user_id, role) values (new.id, new.owner_id, 'owner') on conflict do nothing;
  return new;
end $$;
create trigger workspace_owner after insert on workspaces for each row execute function app.workspace_owner();

create function app.keep_revision() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  if new.content is distinct from old.content then
    insert into public.page_revisions (page_id, content, edited_by) values (old.id, old.content, auth.uid());
  end if;
  return new;
end $$;
create trigger keep_revision after update on pages for each row execute function app.keep_revision();

-- for /s/[token], also signed out
create function public.get_shared_page(link_token text) returns table (title text, content jsonb)
language sql stable security definer set search_path = '' as $$
  select p.title, p.content
  from public.share_links l join public.pages p on p.id = l.page_id
  where l.token = link_token and not l.revoked and (l.expires_at is null or l.expires_at > now()) and p.deleted_at is null
$$;

create view recent_pages with (security_invoker = on) as
  select id, workspace_id, title, created_by from pages where deleted_at is null;

alter table profiles enable row level security;
alter table workspaces enable row level security;
alter table workspace_members enable row level security;
alter table pages enable row level security;
alter table page_permissions enable row level security;
alter table share_links enable row level security;
alter table page_comments enable row level security;
alter table favorites enable row level security;
alter table page_revisions enable row level security;

create policy "profiles: read" on profiles for select to authenticated using (true);
create policy "profiles: self" on profiles for update to authenticated using (id = (select auth.uid())) with check (id = (select auth.uid()));
create policy "ws: members read" on workspaces for select to authenticated using (owner_id = (select auth.uid()) or app.role_in(id) is not null);
create policy "ws: create" on workspaces for insert to authenticated with check (owner_id = (select auth.uid()));
create policy "ws: owner edits" on workspaces for update to authenticated using (owner_id = (select auth.uid())) with check (owner_id = (select auth.uid()));
create policy "ws: owner deletes" on workspaces for delete to authenticated using (owner_id = (select auth.uid()));
create policy "members: read" on workspace_members for select to authenticated using (app.role_in(workspace_id) is not null);
create policy "members: owner adds" on workspace_members for insert to authenticated with check (app.role_in(workspace_id) = 'owner');
create policy "members: owner changes" on workspace_members for update to authenticated using (app.role_in(workspace_id) = 'owner') with check (app.role_in(workspace_id) = 'owner');
create policy "members: leave or remove" on workspace_members for delete to authenticated using (user_id = (select auth.uid()) or app.role_in(workspace_id) = 'owner');
create policy "pages: read" on pages for select to authenticated using (created_by = (select auth.uid()) or (deleted_at is null and app.can_view(id)));
create policy "pages: create" on pages for insert to authenticated with check (created_by = (select auth.uid()) and app.role_in(workspace_id) in ('owner','editor'));
create policy "pages: edit" on pages for update to authenticated using (app.can_edit(id)) with check (app.can_edit(id));
create policy "pages: delete" on pages for delete to authenticated using (app.can_manage(id));
create policy "perm: see" on page_permissions for select to authenticated using (user_id = (select auth.uid()) or app.can_manage(page_id));
create policy "perm: manage" on page_permissions for all to authenticated using (app.can_manage(page_id)) with check (app.can_manage(page_id));
create policy "links: manage" on share_links for select to authenticated using (app.can_manage(page_id));
create policy "links: create" on share_links for insert to authenticated with check (created_by = (select auth.uid()) and app.can_manage(page_id));
create policy "links: revoke" on share_links for delete to authenticated using (app.can_manage(page_id));
create policy "comments: read" on page_comments for select to authenticated using (app.can_view(page_id));
create policy "comments: write" on page_comments for insert to authenticated with check (author_id = (select auth.uid()) and app.can_view(page_id));
create policy "comments: own" on page_comments for update to authenticated using (author_id = (select auth.uid())) with check (author_id = (select auth.uid()) and app.can_view(page_id));
create policy "comments: remove" on page_comments for delete to authenticated using (author_id = (select auth.uid()) or app.can_manage(page_id));
create policy "favorites" on favorites for all to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()) and app.can_view(page_id));
create policy "revisions: read" on page_revisions for select to authenticated using (app.can_edit(page_id));

revoke all on all tables in schema public from anon;
revoke update on pages, share_links from authenticated;
grant update (title, content, is_private, parent_id, deleted_at) on pages to authenticated;
revoke insert, update, delete on page_revisions from authenticated;
revoke truncate, references, trigger on all tables in schema public from authenticated;

insert into storage.buckets (id, name, public) values ('page-assets', 'page-assets', false);
-- <workspace id>/<page id>/<file>
create policy "assets read" on storage.objects for select to authenticated
  using (bucket_id = 'page-assets' and (storage.foldername(name))[1] in (select workspace_id::text from public.workspace_members where user_id = (select auth.uid())));
create policy "assets write" on storage.objects for insert to authenticated
  with check (bucket_id = 'page-assets' and (storage.foldername(name))[1] in (select workspace_id::text from public.workspace_members where user_id = (select auth.uid()) and role in ('owner','editor')));
