-- File sharing: folders, files, shares with a level, public links, storage behind it.

insert into storage.buckets (id, name, public, file_size_limit)
values ('files', 'files', false, 52428800), ('covers', 'covers', true, 1048576)
on conflict (id) do nothing;

create table public.folders (
  id uuid primary key default gen_random_uuid(),
  owner_id uuid not null default auth.uid() references auth.users (id) on delete cascade,
  parent_id uuid references public.folders (id) on delete cascade,
  name text not null
);

create table public.files (
  id uuid primary key default gen_random_uuid(),
  owner_id uuid not null default auth.uid() references auth.users (id) on delete cascade,
  folder_id uuid references public.folders (id) on delete set null,
  name text not null,
  storage_path text not null unique,
  visibility text not null default 'private'
    check (visibility in ('private', 'shared', 'public'))
);

create table public.file_shares (
  file_id uuid not null references public.files (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  level text not null default 'read' check (level in ('read', 'write')),
  expires_at timestamptz,
  primary key (file_id, user_id)
);

create function public.owns_file(f uuid)
returns boolean language sql stable security definer set search_path = ''
as $$
  select exists (select 1 from public.files
                 where id = f and owner_id = (select auth.uid()));
$$;

create function public.can_access_file(f uuid, wanted text)
returns boolean language sql stable security definer set search_path = ''
as $$
  select exists (
    select 1 from public.file_shares s
    where s.file_id = f and s.user_id = (select auth.uid())
      and (s.expires_at is null or s.expires_at > now())
      and (wanted = 'read' or s.level = 'write')
  );
$$;

alter table public.folders enable row level security;
alter table public.files enable row level security;
alter table public.file_shares enable row level security;

create function public.owns_folder(f uuid)
returns boolean language sql stable security definer set search_path = ''
as $$
  select exists (select 1 from public.folders
                 where id = f and owner_id = (select auth.uid()));
$$;
create policy "Owners manage their folders" on public.folders for all to authenticated
  using (owner_id = (select auth.uid()))
  with check (owner_id = (select auth.uid())
    and (parent_id is null or public.owns_folder(parent_id)));

create policy "Owner reads" on public.files for select to authenticated
  using (owner_id = (select auth.uid()));
create policy "Shared users read" on public.files for select to authenticated
  using (visibility = 'shared' and public.can_access_file(id, 'read'));
create policy "Public files" on public.files for select to anon, authenticated
  using (visibility = 'public');
create policy "Owner creates" on public.files for insert to authenticated
  with check (owner_id = (select auth.uid()));
create policy "Owner updates" on public.files for update to authenticated
  using (owner_id = (select auth.uid()))
  with check (owner_id = (select auth.uid()));
create policy "Owner deletes" on public.files for delete to authenticated
  using (owner_id = (select auth.uid()));

create policy "Owner shares" on public.file_shares for all to authenticated
  using (public.owns_file(file_id)) with check (public.owns_file(file_id));
create policy "Recipients see their shares" on public.file_shares
  for select to authenticated using (user_id = (select auth.uid()));

create policy "Own files read" on storage.objects for select to authenticated
  using (bucket_id = 'files' and (storage.foldername(name))[1] = (select auth.uid())::text);
create policy "Shared files read" on storage.objects for select to authenticated
  using (bucket_id = 'files' and exists (
    select 1 from public.files f
    where f.storage_path = objects.name and public.can_access_file(f.id, 'read')));
create policy "Own files upload" on storage.objects for insert to authenticated
  with check (bucket_id in ('files', 'covers')
    and (storage.foldername(name))[1] = (select auth.uid())::text);
create policy "Own files update" on storage.objects for update to authenticated
  using (bucket_id in ('files', 'covers')
    and (storage.foldername(name))[1] = (select auth.uid())::text)
  with check (bucket_id in ('files', 'covers')
    and (storage.foldername(name))[1] = (select auth.uid())::text);
create policy "Own files delete" on storage.objects for delete to authenticated
  using (bucket_id in ('files', 'covers')
    and (storage.foldername(name))[1] = (select auth.uid())::text);
create policy "Own covers list" on storage.objects for select to authenticated
  using (bucket_id = 'covers'
    and (storage.foldername(name))[1] = (select auth.uid())::text);
