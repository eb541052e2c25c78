create type public.site_role as enum ('contributor', 'editor', 'publisher');
create table public.sites (id uuid primary key default gen_random_uuid(), host text not null unique, settings jsonb not null default '{}'::jsonb);
create table public.site_users (site_id uuid not null references public.sites(id) on delete cascade, user_id uuid not null references auth.users(id) on delete cascade, role public.site_role not null default 'contributor', primary key (site_id, user_id));
create table public.articles (
  id uuid not null default gen_random_uuid(), site_id uuid not null references public.sites(id) on delete cascade, author_id uuid not null references auth.users(id),
  slug text not null, title text not null, body text not null default '', status text not null default 'draft' check (status in ('draft','review','published','archived')), published_at timestamptz,
  deleted_at timestamptz, search tsvector generated always as (to_tsvector('simple', title)) stored,
  primary key (site_id, id), unique (site_id, slug), constraint published_has_date check (status <> 'published' or published_at is not null));
create table public.article_revisions (site_id uuid not null, article_id uuid not null, revision int not null, editor_id uuid references auth.users(id), body text not null, primary key (site_id, article_id, revision), foreign key (site_id, article_id) references public.articles (site_id, id) on delete cascade);
create table public.tags (id int generated always as identity primary key, site_id uuid not null references public.sites(id) on delete cascade, label text not null, unique (site_id, label));
create table public.article_comments (id uuid primary key default gen_random_uuid(), site_id uuid not null, article_id uuid not null, user_id uuid not null references auth.users(id), body text not null, approved boolean not null default false, foreign key (site_id, article_id) references public.articles (site_id, id) on delete cascade);
create table public.subscribers (site_id uuid not null references public.sites(id) on delete cascade, email text not null, confirmed boolean not null default false, primary key (site_id, email));
create index on public.site_users (user_id); create index on public.articles (author_id); create index on public.article_comments (user_id); create index on public.article_comments (site_id, article_id);

create schema if not exists private;
create or replace function private.role_rank(site uuid) returns int language sql stable security definer set search_path = '' as $$
  select coalesce((select array_position(array['contributor','editor','publisher'], u.role::text) from public.site_users u where u.site_id = site and u.user_id = (select auth.uid())), 0) $$;
grant usage on schema private to anon, authenticated; grant execute on function private.role_rank(uuid) to anon, authenticated;
create or replace function public.keep_revision() returns trigger language plpgsql security definer set search_path = '' as $$
begin
  insert into public.article_revisions (site_id, article_id, revision, editor_id, body)
  select old.site_id, old.id, coalesce(max(r.revision), 0) + 1, auth.uid(), old.body from public.article_revisions r where r.site_id = old.site_id and r.article_id = old.id;
  return new;
end $$;
revoke execute on function public.keep_revision() from public, anon, authenticated;
create trigger keep_revision after update of body on public.articles for each row when (old.body is distinct from new.body) execute function public.keep_revision();
create or replace function public.guard_article() returns trigger language plpgsql set search_path = '' as $$
begin
  if current_user in ('authenticated', 'anon') then
    if tg_op = 'UPDATE' and (new.site_id <> old.site_id or new.author_id <> old.author_id) then raise exception 'site and author are fixed' using errcode = '42501'; end if;
    if new.status = 'published' and private.role_rank(new.site_id) < 3 then raise exception 'publishers publish' using errcode = '42501'; end if;
  end if;
  return new;
end $$;
create trigger guard_article before insert or update on public.articles for each row execute function public.guard_article();
alter table public.sites enable row level security; alter table public.site_users enable row level security; alter table public.articles enable row level security; alter table public.article_revisions enable row level security; alter table public.tags enable row level security; alter table public.article_comments enable row level security; alter table public.subscribers enable row level security;
create policy "sites are public" on public.sites for select using (true);
create policy "publishers configure" on public.sites for update to authenticated using (private.role_rank(id) = 3) with check (private.role_rank(id) = 3);
create policy "colleagues" on public.site_users for select to authenticated using (private.role_rank(site_id) >= 1);
create policy "publishers staff" on public.site_users for all to authenticated using (private.role_rank(site_id) >= 3) with check (private.role_rank(site_id) >= 3);
create policy "published is public" on public.articles for select using (status = 'published' and published_at <= now() and deleted_at is null);
create policy "staff read" on public.articles for select to authenticated using (private.role_rank(site_id) >= 2 or (author_id = (select auth.uid()) and private.role_rank(site_id) >= 1));
create policy "write" on public.articles for insert to authenticated with check (author_id = (select auth.uid()) and private.role_rank(site_id) >= 1);
create policy "edit" on public.articles for update to authenticated using (private.role_rank(site_id) >= 2 or (author_id = (select auth.uid()) and private.role_rank(site_id) >= 1 and status in ('draft','review'))) with check (private.role_rank(site_id) >= 2 or (author_id = (select auth.uid()) and private.role_rank(site_id) >= 1 and status in ('draft','review')));
create policy "revisions" on public.article_revisions for select to authenticated using (private.role_rank(site_id) >= 2);
revoke insert, update, delete on public.article_revisions from anon, authenticated;
create policy "tags are public" on public.tags for select using (true);
create policy "editors tag" on public.tags for all to authenticated using (private.role_rank(site_id) >= 2) with check (private.role_rank(site_id) >= 2);
create policy "approved comments" on public.article_comments for select using (approved and exists (select 1 from public.articles a where a.site_id = article_comments.site_id and a.id = article_id));
create policy "own and moderated comments" on public.article_comments for select to authenticated using (user_id = (select auth.uid()) or private.role_rank(site_id) >= 2);
create policy "comment" on public.article_comments for insert to authenticated with check (user_id = (select auth.uid()) and not approved and exists (select 1 from public.articles a where a.site_id = article_comments.site_id and a.id = article_id and a.status = 'published'));
create policy "moderate" on public.article_comments for update to authenticated using (private.role_rank(site_id) >= 2) with check (private.role_rank(site_id) >= 2);
create policy "delete comments" on public.article_comments for delete to authenticated using (user_id = (select auth.uid()) or private.role_rank(site_id) >= 2);
revoke update on public.article_comments from anon, authenticated; grant update (approved) on public.article_comments to authenticated;
create policy "subscribe" on public.subscribers for insert to anon, authenticated with check (not confirmed);
create policy "publishers see subscribers" on public.subscribers for select to authenticated using (private.role_rank(site_id) >= 3);
create view public.published_articles with (security_invoker = on) as select site_id, id, slug, title, body, published_at from public.articles where status = 'published' and deleted_at is null;
revoke truncate on all tables in schema public from anon, authenticated;
create policy "staff upload media" on storage.objects for insert to authenticated with check (bucket_id in ('media','drafts') and exists (select 1 from public.site_users u where u.site_id::text = (storage.foldername(name))[1] and u.user_id = (select auth.uid())));
create policy "staff see files" on storage.objects for select to authenticated using (bucket_id in ('media','drafts') and exists (select 1 from public.site_users u where u.site_id::text = (storage.foldername(name))[1] and u.user_id = (select auth.uid())));

insert into storage.buckets (id, name, public) values ('media', 'media', true);

insert into storage.buckets (id, name, public) values ('drafts', 'drafts', false);
