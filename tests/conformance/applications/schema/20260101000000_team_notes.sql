-- A small application: people with profiles write notes, share them with everybody who
-- is signed in or keep them, attach files, and see each other's notes change.

create table public.profiles (
    id uuid primary key references auth.users on delete cascade,
    name text not null,
    created_at timestamptz not null default now()
);
alter table public.profiles enable row level security;
create policy "profiles are for members" on public.profiles
    for select to authenticated using (true);
create policy "everybody edits their own profile" on public.profiles
    for update to authenticated using (id = auth.uid()) with check (id = auth.uid());

create function public.make_profile() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
    insert into public.profiles (id, name)
    values (new.id, coalesce(new.raw_user_meta_data ->> 'name', 'somebody'));
    return new;
end
$$;
create trigger make_profile after insert on auth.users
    for each row execute function public.make_profile();

create table public.notes (
    id bigint primary key generated always as identity,
    owner uuid not null default auth.uid() references public.profiles on delete cascade,
    title text not null check (char_length(title) between 1 and 80),
    shared boolean not null default false,
    attachment text,
    created_at timestamptz not null default now()
);
alter table public.notes enable row level security;
create policy "shared notes are for members" on public.notes
    for select to authenticated using (shared or owner = auth.uid());
create policy "everybody writes their own notes" on public.notes
    for all to authenticated using (owner = auth.uid()) with check (owner = auth.uid());

create function public.count_notes(only_shared boolean default false) returns bigint
language sql stable set search_path = '' as $$
    select count(*) from public.notes n where n.shared or not only_shared
$$;

alter publication supabase_realtime add table public.notes;

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
values ('attachments', 'attachments', false, 1048576, array['text/plain', 'image/png']);
create policy "everybody keeps files in a folder of their own" on storage.objects
    for all to authenticated
    using (bucket_id = 'attachments' and (storage.foldername(name))[1] = auth.uid()::text)
    with check (
        bucket_id = 'attachments' and (storage.foldername(name))[1] = auth.uid()::text
    );

create policy "members hear the team room" on realtime.messages
    for select to authenticated using (realtime.topic() = 'team');
create policy "members speak in the team room" on realtime.messages
    for insert to authenticated with check (realtime.topic() = 'team');
