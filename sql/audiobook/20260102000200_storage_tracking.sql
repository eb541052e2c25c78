-- What each user stores, and how much they may.  The account changes in the same
-- transaction as the object's row, under the lock of the user's account, so the quota
-- holds under any concurrency and the sum is right after any history.

create table if not exists public.user_credits (
  user_id uuid primary key references auth.users (id) on delete cascade,
  plan text not null default 'free' check (plan in ('free', 'paid')),
  credits integer not null default 0 check (credits >= 0),
  storage_used_bytes bigint not null default 0 check (storage_used_bytes >= 0),
  -- 500 MiB and 5 GiB.
  storage_limit_bytes bigint not null generated always as (
    case plan when 'paid' then 5368709120 else 524288000 end) stored,
  updated_at timestamptz not null default now()
);
alter table public.user_credits enable row level security;
revoke all on public.user_credits from anon, authenticated;
grant select on public.user_credits to authenticated;
grant all on public.user_credits to service_role;
drop policy if exists credits_owner_select on public.user_credits;
create policy credits_owner_select on public.user_credits
  for select to authenticated using (user_id = (select auth.uid()));

create or replace trigger update_user_credits_updated_at
  before update on public.user_credits
  for each row execute function public.update_updated_at_column();

create or replace view public.usage_by_user with (security_invoker = true) as
select user_id, plan, storage_used_bytes, storage_limit_bytes,
  round(100.0 * storage_used_bytes / storage_limit_bytes, 2) as used_percent
from public.user_credits;
revoke all on public.usage_by_user from anon, authenticated;
grant select on public.usage_by_user to authenticated, service_role;

-- Adds p_delta bytes to the account of a folder's user, or raises when that is too much.
-- Less is always allowed: whoever is over the limit after a downgrade may still delete.
create or replace function private.account_bytes(p_folder text, p_delta bigint)
returns void
language plpgsql security definer set search_path = ''
as $$
begin
  if p_delta = 0
     or p_folder !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then
    return;
  end if;
  insert into public.user_credits (user_id)
  select u.id from auth.users as u where u.id = p_folder::uuid
  on conflict (user_id) do nothing;
  -- The row lock makes concurrent uploads wait; the condition is evaluated after it.
  update public.user_credits as c
  set storage_used_bytes = greatest(c.storage_used_bytes + p_delta, 0)
  where c.user_id = p_folder::uuid
    and (p_delta < 0 or c.storage_used_bytes + p_delta <= c.storage_limit_bytes);
  if not found and p_delta > 0 then
    -- 42501 reaches the client as 403.  Any other code would look like an outage (500),
    -- after which applications retry or fall back.
    raise exception 'storage quota exceeded' using errcode = '42501';
  end if;
end;
$$;
revoke all on function private.account_bytes(text, bigint) from public;

-- The Storage API tests an upload with the length that the client declares and completes
-- it with the size that was stored.
create or replace function private.object_bytes(p_metadata jsonb)
returns bigint
language sql immutable set search_path = ''
as $$
  select case
    when p_metadata ->> 'size' ~ '^\d{1,18}$' then (p_metadata ->> 'size')::bigint
    when p_metadata ->> 'contentLength' ~ '^\d{1,18}$'
      then (p_metadata ->> 'contentLength')::bigint
    else 0
  end;
$$;
revoke all on function private.object_bytes(jsonb) from public;

create or replace function private.account_audio_object()
returns trigger
language plpgsql security definer set search_path = ''
as $$
declare
  v_old_folder text := case when tg_op <> 'INSERT' and old.bucket_id = 'audiofiles'
                            then split_part(old.name, '/', 1) end;
  v_new_folder text := case when tg_op <> 'DELETE' and new.bucket_id = 'audiofiles'
                            then split_part(new.name, '/', 1) end;
  v_old_bytes bigint := case when v_old_folder is not null
                             then private.object_bytes(old.metadata) else 0 end;
  v_new_bytes bigint := case when v_new_folder is not null
                             then private.object_bytes(new.metadata) else 0 end;
begin
  if v_old_folder = v_new_folder then
    perform private.account_bytes(v_new_folder, v_new_bytes - v_old_bytes);
  else
    perform private.account_bytes(v_old_folder, -v_old_bytes);
    perform private.account_bytes(v_new_folder, v_new_bytes);
  end if;
  return null;
end;
$$;
revoke all on function private.account_audio_object() from public;

create or replace trigger account_audio_object
  after insert or update of bucket_id, name, metadata or delete on storage.objects
  for each row execute function private.account_audio_object();
