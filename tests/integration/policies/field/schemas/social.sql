-- Social network: private accounts, follow requests, blocks, reactions
create table public.users (
  id uuid primary key references auth.users(id) on delete cascade,
  username text not null unique, bio text default '', is_private boolean not null default false, created_at timestamptz default now());
create table public.follows (
  follower_id uuid not null references public.users(id) on delete cascade,
  followee_id uuid not null references public.users(id) on delete cascade,
  status text not null default 'pending' check (status in ('pending','accepted')),
  primary key (follower_id, followee_id),
  constraint no_self_follow check (follower_id <> followee_id));
create table public.blocks (
  blocker_id uuid not null references public.users(id) on delete cascade,
  blocked_id uuid not null references public.users(id) on delete cascade,
  primary key (blocker_id, blocked_id));
create table public.posts (
  id bigserial primary key, author_id uuid not null references public.users(id) on delete cascade,
  content text not null, visibility text not null default 'followers' check (visibility in ('public','followers','only_me')), created_at timestamptz default now());
create table public.likes (post_id bigint references public.posts(id) on delete cascade, user_id uuid references public.users(id) on delete cascade, primary key (post_id, user_id));
create table public.comments (id bigserial primary key, post_id bigint not null references public.posts(id) on delete cascade, user_id uuid not null references public.users(id) on delete cascade, content text not null);
create table public.notifications (id uuid primary key default gen_random_uuid(), user_id uuid not null references public.users(id) on delete cascade, kind text not null, data jsonb default '{}', read_at timestamptz);
create index on public.posts(author_id); create index on public.comments(post_id); create index on public.comments(user_id); create index on public.follows(followee_id); create index on public.likes(user_id); create index on public.notifications(user_id);

create or replace function public.handle_new_user() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.users (id, username) values (new.id, coalesce(new.raw_user_meta_data->>'username', 'user_' || replace(new.id::text, '-', '')));
  return new;
end; $$;
create trigger on_auth_user_created after insert on auth.users for each row execute procedure public.handle_new_user();

create or replace function public.is_blocked(other uuid) returns boolean language sql stable security definer set search_path = '' as $$
  select exists(select 1 from public.blocks b where (b.blocker_id = other and b.blocked_id = auth.uid()) or (b.blocker_id = auth.uid() and b.blocked_id = other)); $$;
create or replace function public.follows_user(other uuid) returns boolean language sql stable security definer set search_path = '' as $$
  select exists(select 1 from public.follows f where f.follower_id = auth.uid() and f.followee_id = other and f.status = 'accepted'); $$;
create or replace function public.can_see_author(other uuid) returns boolean language sql stable security definer set search_path = '' as $$
  select other = auth.uid() or (not public.is_blocked(other) and (public.follows_user(other) or not (select u.is_private from public.users u where u.id = other))); $$;
revoke execute on function public.is_blocked(uuid), public.follows_user(uuid), public.can_see_author(uuid), public.handle_new_user() from public, anon;
grant execute on function public.is_blocked(uuid), public.follows_user(uuid), public.can_see_author(uuid) to authenticated;

alter table users enable row level security; alter table follows enable row level security; alter table blocks enable row level security;
alter table posts enable row level security; alter table likes enable row level security; alter table comments enable row level security; alter table notifications enable row level security;

create policy "users_select" on users for select to authenticated using (not public.is_blocked(id));
create policy "users_update" on users for update to authenticated using (id = (select auth.uid())) with check (id = (select auth.uid()));
create policy "follows_select" on follows for select to authenticated using ((select auth.uid()) in (follower_id, followee_id));
create policy "follows_insert" on follows for insert to authenticated with check (
  follower_id = (select auth.uid()) and not public.is_blocked(followee_id)
  and (status = 'pending' or exists (select 1 from users u where u.id = followee_id and not u.is_private)));
create policy "follows_accept" on follows for update to authenticated using (followee_id = (select auth.uid())) with check (followee_id = (select auth.uid()));
create policy "follows_delete" on follows for delete to authenticated using ((select auth.uid()) in (follower_id, followee_id));
revoke update on follows from anon, authenticated; grant update (status) on follows to authenticated;
create policy "blocks_all" on blocks for all to authenticated using (blocker_id = (select auth.uid())) with check (blocker_id = (select auth.uid()));
create policy "posts_select" on posts for select to authenticated using (
  author_id = (select auth.uid())
  or (visibility = 'public' and public.can_see_author(author_id))
  or (visibility = 'followers' and public.follows_user(author_id) and not public.is_blocked(author_id)));
create policy "posts_insert" on posts for insert to authenticated with check (author_id = (select auth.uid()));
create policy "posts_update" on posts for update to authenticated using (author_id = (select auth.uid()));
create policy "posts_delete" on posts for delete to authenticated using (author_id = (select auth.uid()));
create policy "likes_select" on likes for select to authenticated using (exists (select 1 from posts p where p.id = post_id));
create policy "likes_insert" on likes for insert to authenticated with check (user_id = (select auth.uid()) and exists (select 1 from posts p where p.id = post_id));
create policy "likes_delete" on likes for delete to authenticated using (user_id = (select auth.uid()));
create policy "comments_select" on comments for select to authenticated using (exists (select 1 from posts p where p.id = post_id));
create policy "comments_insert" on comments for insert to authenticated with check (user_id = (select auth.uid()) and exists (select 1 from posts p where p.id = post_id));
create policy "comments_delete" on comments for delete to authenticated using (user_id = (select auth.uid()) or exists (select 1 from posts p where p.id = post_id and p.author_id = (select auth.uid())));
create policy "notifications_select" on notifications for select to authenticated using (user_id = (select auth.uid()));
create policy "notifications_update" on notifications for update to authenticated using (user_id = (select auth.uid()));
revoke update on notifications from anon, authenticated; grant update (read_at) on notifications to authenticated;
revoke truncate on all tables in schema public from anon, authenticated;
alter publication supabase_realtime add table public.notifications, public.comments;
insert into storage.buckets(id, name, public) values ('avatars','avatars',true), ('dms','dms',false);
create policy "avatar upload" on storage.objects for insert to authenticated with check (bucket_id = 'avatars' and (storage.foldername(name))[1] = (select auth.uid())::text);
create policy "avatar update" on storage.objects for update to authenticated using (bucket_id = 'avatars' and (storage.foldername(name))[1] = (select auth.uid())::text) with check (bucket_id = 'avatars' and (storage.foldername(name))[1] = (select auth.uid())::text);
create policy "avatar select own" on storage.objects for select to authenticated using (bucket_id = 'avatars' and (storage.foldername(name))[1] = (select auth.uid())::text);
create policy "dm files" on storage.objects for all to authenticated using (bucket_id = 'dms' and owner_id = (select auth.uid())::text and (storage.foldername(name))[1] = (select auth.uid())::text) with check (bucket_id = 'dms' and owner_id = (select auth.uid())::text and (storage.foldername(name))[1] = (select auth.uid())::text);
