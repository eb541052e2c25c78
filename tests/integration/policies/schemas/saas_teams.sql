-- SaaS with teams: organisations, members with roles, projects, tasks, invitations.

create schema if not exists private;
grant usage on schema private to authenticated;

create type public.member_role as enum ('owner', 'admin', 'member', 'viewer');

create table public.organizations (
  id uuid primary key default gen_random_uuid(),
  name text not null,
  slug text not null unique check (slug ~ '^[a-z0-9-]{3,40}$'),
  created_at timestamptz not null default now()
);

create table public.memberships (
  organization_id uuid not null references public.organizations (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  role public.member_role not null default 'member',
  primary key (organization_id, user_id)
);
create index on public.memberships (user_id);

create table public.projects (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  name text not null,
  archived_at timestamptz,
  unique (organization_id, name)
);

create table public.tasks (
  id uuid primary key default gen_random_uuid(),
  project_id uuid not null references public.projects (id) on delete cascade,
  title text not null,
  status text not null default 'todo' check (status in ('todo', 'doing', 'done')),
  assignee_id uuid references auth.users (id) on delete set null,
  created_by uuid not null default auth.uid() references auth.users (id),
  due_on date
);

create table public.invitations (
  id uuid primary key default gen_random_uuid(),
  organization_id uuid not null references public.organizations (id) on delete cascade,
  email text not null,
  role public.member_role not null default 'member' check (role <> 'owner'),
  token uuid not null default gen_random_uuid(),
  expires_at timestamptz not null default now() + interval '7 days'
);

create function private.is_member(org uuid)
returns boolean language sql stable security definer set search_path = ''
as $$
  select exists (
    select 1 from public.memberships m
    where m.organization_id = org and m.user_id = (select auth.uid())
  );
$$;

create function private.has_role(org uuid, roles public.member_role[])
returns boolean language sql stable security definer set search_path = ''
as $$
  select exists (
    select 1 from public.memberships m
    where m.organization_id = org and m.user_id = (select auth.uid())
      and m.role = any (roles)
  );
$$;

create function public.accept_invitation(invitation_token uuid)
returns uuid language plpgsql security definer set search_path = ''
as $$
declare
  found_invitation public.invitations;
begin
  if auth.uid() is null then
    raise exception 'sign in first' using errcode = '42501';
  end if;
  select * into found_invitation from public.invitations i
  where i.token = invitation_token and i.expires_at > now()
    and i.email = auth.email();
  if not found then
    raise exception 'invitation not found' using errcode = 'P0002';
  end if;
  insert into public.memberships (organization_id, user_id, role)
  values (found_invitation.organization_id, auth.uid(), found_invitation.role)
  on conflict do nothing;
  delete from public.invitations i where i.id = found_invitation.id;
  return found_invitation.organization_id;
end;
$$;

create function public.create_organization(name text, slug text)
returns uuid language plpgsql security definer set search_path = ''
as $$
declare
  new_id uuid;
begin
  if auth.uid() is null then
    raise exception 'sign in first' using errcode = '42501';
  end if;
  insert into public.organizations (name, slug)
  values (create_organization.name, create_organization.slug)
  returning id into new_id;
  insert into public.memberships (organization_id, user_id, role)
  values (new_id, auth.uid(), 'owner');
  return new_id;
end;
$$;

alter table public.organizations enable row level security;
alter table public.memberships enable row level security;
alter table public.projects enable row level security;
alter table public.tasks enable row level security;
alter table public.invitations enable row level security;

create policy org_select on public.organizations for select to authenticated
  using (private.is_member(id));
create policy org_update on public.organizations for update to authenticated
  using (private.has_role(id, '{owner,admin}'))
  with check (private.has_role(id, '{owner,admin}'));
create policy org_delete on public.organizations for delete to authenticated
  using (private.has_role(id, '{owner}'));

create policy member_select on public.memberships for select to authenticated
  using (private.is_member(organization_id));
create policy member_insert on public.memberships for insert to authenticated
  with check (private.has_role(organization_id, '{owner,admin}') and role <> 'owner');
create policy member_update on public.memberships for update to authenticated
  using (private.has_role(organization_id, '{owner}'))
  with check (private.has_role(organization_id, '{owner}'));
create policy member_delete on public.memberships for delete to authenticated
  using (private.has_role(organization_id, '{owner,admin}')
    or user_id = (select auth.uid()));

create policy project_select on public.projects for select to authenticated
  using (private.is_member(organization_id));
create policy project_write on public.projects for all to authenticated
  using (private.has_role(organization_id, '{owner,admin,member}'))
  with check (private.has_role(organization_id, '{owner,admin,member}'));

create policy task_select on public.tasks for select to authenticated
  using (exists (select 1 from public.projects p
    where p.id = project_id and private.is_member(p.organization_id)));
create policy task_insert on public.tasks for insert to authenticated
  with check (created_by = (select auth.uid()) and exists (
    select 1 from public.projects p
    where p.id = project_id
      and private.has_role(p.organization_id, '{owner,admin,member}')));
create policy task_update on public.tasks for update to authenticated
  using (exists (select 1 from public.projects p
    where p.id = project_id
      and private.has_role(p.organization_id, '{owner,admin,member}')));
create policy task_delete on public.tasks for delete to authenticated
  using (created_by = (select auth.uid()) or exists (
    select 1 from public.projects p
    where p.id = project_id
      and private.has_role(p.organization_id, '{owner,admin}')));

create policy invitation_manage on public.invitations for all to authenticated
  using (private.has_role(organization_id, '{owner,admin}'))
  with check (private.has_role(organization_id, '{owner,admin}'));

revoke execute on function public.accept_invitation(uuid) from public, anon;
revoke execute on function public.create_organization(text, text) from public, anon;
