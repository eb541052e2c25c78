-- Kanban: boards shared by a share table with permissions, lists, cards, comments, attachments.
create table public.boards (
  id uuid primary key default gen_random_uuid(), owner_id uuid not null default auth.uid() references auth.users (id) on delete cascade,
  title text not null, visibility text not null default 'private' check (visibility in ('private', 'link', 'public'))
);
create table public.board_shares (
  board_id uuid not null references public.boards (id) on delete cascade,
  shared_with uuid not null references auth.users (id) on delete cascade,
  permission text not null default 'view' check (permission in ('view', 'edit')),
  primary key (board_id, shared_with)
);
create index on public.board_shares (shared_with);
create table public.lists (
  id uuid primary key default gen_random_uuid(), board_id uuid not null references public.boards (id) on delete cascade,
  title text not null, position double precision not null default 0
);
create table public.cards (
  id uuid primary key default gen_random_uuid(), list_id uuid not null references public.lists (id) on delete cascade,
  title text not null, details text, assigned_to uuid references auth.users (id) on delete set null, archived boolean not null default false
);
create table public.card_comments (
  id uuid primary key default gen_random_uuid(), card_id uuid not null references public.cards (id) on delete cascade,
  user_id uuid not null default auth.uid() references auth.users (id) on delete cascade, body text not null
);
create schema if not exists private;
grant usage on schema private to anon, authenticated;
create function private.can_view(b uuid) returns boolean language sql stable security definer set search_path = ''
as $$ select exists (select 1 from public.boards x where x.id = b and (x.owner_id = auth.uid() or x.visibility = 'public'
  or exists (select 1 from public.board_shares s where s.board_id = x.id and s.shared_with = auth.uid()))) $$;
create function private.can_edit(b uuid) returns boolean language sql stable security definer set search_path = ''
as $$ select exists (select 1 from public.boards x where x.id = b and x.owner_id = auth.uid())
  or exists (select 1 from public.board_shares s where s.board_id = b and s.shared_with = auth.uid() and s.permission = 'edit') $$;
create function private.is_board_owner(b uuid) returns boolean language sql stable security definer set search_path = ''
as $$ select exists (select 1 from public.boards x where x.id = b and x.owner_id = auth.uid()) $$;
create function private.board_of_list(l uuid) returns uuid language sql stable security definer set search_path = ''
as $$ select board_id from public.lists where id = l $$;
create function private.board_of_card(c uuid) returns uuid language sql stable security definer set search_path = ''
as $$ select l.board_id from public.cards k join public.lists l on l.id = k.list_id where k.id = c $$;

alter table public.boards enable row level security;
alter table public.board_shares enable row level security;
alter table public.lists enable row level security;
alter table public.cards enable row level security;
alter table public.card_comments enable row level security;

create policy boards_view on public.boards for select using (private.can_view(id));
create policy boards_new on public.boards for insert to authenticated with check (owner_id = auth.uid());
create policy boards_edit on public.boards for update to authenticated using (owner_id = auth.uid()) with check (owner_id = auth.uid());
create policy boards_drop on public.boards for delete to authenticated using (owner_id = auth.uid());
create policy shares_view on public.board_shares for select to authenticated
  using (shared_with = auth.uid() or private.is_board_owner(board_id));
create policy shares_add on public.board_shares for insert to authenticated with check (private.is_board_owner(board_id));
create policy shares_edit on public.board_shares for update to authenticated
  using (private.is_board_owner(board_id)) with check (private.is_board_owner(board_id));
create policy shares_drop on public.board_shares for delete to authenticated
  using (private.is_board_owner(board_id) or shared_with = auth.uid());
create policy lists_view on public.lists for select using (private.can_view(board_id));
create policy lists_edit on public.lists for all to authenticated
  using (private.can_edit(board_id)) with check (private.can_edit(board_id));
create policy cards_view on public.cards for select using (private.can_view(private.board_of_list(list_id)));
create policy cards_edit on public.cards for all to authenticated
  using (private.can_edit(private.board_of_list(list_id))) with check (private.can_edit(private.board_of_list(list_id)));
create policy comments_view on public.card_comments for select using (private.can_view(private.board_of_card(card_id)));
create policy comments_add on public.card_comments for insert to authenticated
  with check (user_id = auth.uid() and private.can_view(private.board_of_card(card_id)));
create policy comments_edit on public.card_comments for update to authenticated
  using (user_id = auth.uid()) with check (user_id = auth.uid() and private.can_view(private.board_of_card(card_id)));
create policy comments_drop on public.card_comments for delete to authenticated
  using (user_id = auth.uid() or private.is_board_owner(private.board_of_card(card_id)));
alter publication supabase_realtime add table public.cards, public.lists;
create policy board_topics on realtime.messages for select to authenticated
  using (realtime.topic() like 'board:%' and private.can_view(split_part(realtime.topic(), ':', 2)::uuid));
create policy board_topics_speak on realtime.messages for insert to authenticated
  with check (realtime.topic() like 'board:%' and private.can_edit(split_part(realtime.topic(), ':', 2)::uuid));

insert into storage.buckets (id, name, public, file_size_limit) values ('attachments', 'attachments', false, 1000000);
create policy attachments_view on storage.objects for select to authenticated
  using (bucket_id = 'attachments' and private.can_view(((storage.foldername(name))[1])::uuid));
create policy attachments_add on storage.objects for insert to authenticated
  with check (bucket_id = 'attachments' and private.can_edit(((storage.foldername(name))[1])::uuid));
create policy attachments_drop on storage.objects for delete to authenticated
  using (bucket_id = 'attachments' and private.can_edit(((storage.foldername(name))[1])::uuid));
