-- Multi-tenant workspace: memberships, composite keys, partitions, storage, realtime.

create table public.workspaces (
  id uuid primary key default gen_random_uuid(),
  name text not null
);

create table public.workspace_members (
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  role text not null default 'member' check (role in ('admin', 'member', 'guest')),
  status text not null default 'active' check (status in ('active', 'invited')),
  primary key (workspace_id, user_id)
);

create table public.channels (
  workspace_id uuid not null references public.workspaces (id) on delete cascade,
  id uuid not null default gen_random_uuid(),
  name text not null,
  primary key (workspace_id, id)
);

create table public.posts (
  workspace_id uuid not null,
  channel_id uuid not null,
  id uuid not null default gen_random_uuid(),
  author_id uuid not null default auth.uid() references auth.users (id),
  body text not null,
  pinned boolean not null default false,
  posted_at timestamptz not null default now(),
  primary key (workspace_id, id),
  foreign key (workspace_id, channel_id)
    references public.channels (workspace_id, id) on delete cascade
) partition by hash (workspace_id);
create table public.posts_p0 partition of public.posts
  for values with (modulus 2, remainder 0);
create table public.posts_p1 partition of public.posts
  for values with (modulus 2, remainder 1);

create table public.user_settings (
  user_id uuid primary key default auth.uid() references auth.users (id)
    on delete cascade,
  preferences jsonb not null default '{}'
);

insert into storage.buckets (id, name, public, allowed_mime_types)
values ('workspace-files', 'workspace-files', false, '{image/png,application/pdf}'),
       ('public-logos', 'public-logos', true, '{image/png}')
on conflict (id) do nothing;

create function public.is_member(w uuid)
returns boolean language sql stable security definer set search_path = ''
as $$
  select exists (
    select 1 from public.workspace_members m
    where m.workspace_id = w and m.user_id = (select auth.uid()) and m.status = 'active'
  );
$$;
create function public.is_admin(w uuid)
returns boolean language sql stable security definer set search_path = ''
as $$
  select exists (
    select 1 from public.workspace_members m
    where m.workspace_id = w and m.user_id = (select auth.uid())
      and m.status = 'active' and m.role = 'admin'
  );
$$;
create function public.try_uuid(t text)
returns uuid language plpgsql immutable set search_path = ''
as $$
begin
  return t::uuid;
exception when invalid_text_representation then
  return null;
end;
$$;

alter table public.workspaces enable row level security;
alter table public.workspace_members enable row level security;
alter table public.channels enable row level security;
alter table public.posts enable row level security;
alter table public.posts_p0 enable row level security;
alter table public.posts_p1 enable row level security;
alter table public.user_settings enable row level security;

create policy "Members see their workspace" on public.workspaces
  for select to authenticated using (public.is_member(id));
create policy "Admins rename" on public.workspaces for update to authenticated
  using (public.is_admin(id)) with check (public.is_admin(id));

create policy "Members see members" on public.workspace_members
  for select to authenticated
  using (public.is_member(workspace_id) or user_id = (select auth.uid()));
create policy "Admins invite" on public.workspace_members for insert to authenticated
  with check (public.is_admin(workspace_id) and status = 'invited');
create policy "Invited users accept" on public.workspace_members
  for update to authenticated
  using (user_id = (select auth.uid()) and status = 'invited')
  with check (user_id = (select auth.uid()) and status = 'active' and role <> 'admin');
create policy "Admins remove" on public.workspace_members for delete to authenticated
  using (public.is_admin(workspace_id));

create policy "Members read channels" on public.channels for select to authenticated
  using (public.is_member(workspace_id));
create policy "Admins manage channels" on public.channels for all to authenticated
  using (public.is_admin(workspace_id)) with check (public.is_admin(workspace_id));

create policy "Members read posts" on public.posts for select to authenticated
  using (public.is_member(workspace_id));
create policy "Members write posts" on public.posts for insert to authenticated
  with check (public.is_member(workspace_id) and author_id = (select auth.uid())
    and not pinned);
create policy "Authors edit posts" on public.posts for update to authenticated
  using (public.is_member(workspace_id) and author_id = (select auth.uid()))
  with check (public.is_member(workspace_id) and author_id = (select auth.uid())
    and not pinned);
create policy "Authors and admins delete posts" on public.posts
  for delete to authenticated
  using (public.is_member(workspace_id)
    and (author_id = (select auth.uid()) or public.is_admin(workspace_id)));

create policy "Own settings" on public.user_settings for all to authenticated
  using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

create policy "Members read files" on storage.objects for select to authenticated
  using (bucket_id = 'workspace-files'
    and public.is_member(public.try_uuid((storage.foldername(name))[1])));
create policy "Members upload files" on storage.objects for insert to authenticated
  with check (bucket_id = 'workspace-files'
    and public.is_member(public.try_uuid((storage.foldername(name))[1]))
    and (storage.foldername(name))[2] = (select auth.uid())::text);
create policy "Uploaders delete files" on storage.objects for delete to authenticated
  using (bucket_id = 'workspace-files'
    and public.is_member(public.try_uuid((storage.foldername(name))[1]))
    and (storage.foldername(name))[2] = (select auth.uid())::text);
create policy "Admins upload logos" on storage.objects for insert to authenticated
  with check (bucket_id = 'public-logos'
    and public.is_admin(public.try_uuid((storage.foldername(name))[1])));

create policy "Members join workspace topics" on realtime.messages
  for select to authenticated
  using (split_part(realtime.topic(), ':', 1) = 'workspace'
    and public.is_member(public.try_uuid(split_part(realtime.topic(), ':', 2))));
create policy "Members broadcast" on realtime.messages for insert to authenticated
  with check (split_part(realtime.topic(), ':', 1) = 'workspace'
    and public.is_member(public.try_uuid(split_part(realtime.topic(), ':', 2))));

alter publication supabase_realtime add table public.posts;
