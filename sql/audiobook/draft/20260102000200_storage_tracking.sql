-- First version of quota tracking: the upload is checked first and counted later, and
-- overwriting and deleting do not count at all.

create table user_credits (
  user_id uuid primary key references auth.users (id) on delete cascade,
  plan text not null default 'free',
  credits integer not null default 0,
  storage_used_bytes bigint not null default 0,
  storage_limit_bytes bigint not null default 500000000,
  updated_at timestamptz default now()
);

create view usage_by_user as
select user_id, plan, storage_used_bytes, storage_limit_bytes,
  round(100.0 * storage_used_bytes / storage_limit_bytes, 2) as used_percent
from user_credits;

create function count_audio_upload() returns trigger
language plpgsql security definer as $$
declare
  used bigint;
begin
  if new.bucket_id <> 'audiofiles' then
    return new;
  end if;
  select storage_used_bytes into used from user_credits where user_id = new.owner;
  if used + coalesce((new.metadata ->> 'size')::bigint, 0) > 500000000 then
    raise exception 'quota exceeded';
  end if;
  insert into user_credits (user_id, storage_used_bytes)
  values (new.owner, coalesce((new.metadata ->> 'size')::bigint, 0))
  on conflict (user_id) do update
    set storage_used_bytes = used + coalesce((new.metadata ->> 'size')::bigint, 0);
  return new;
end;
$$;
create trigger count_audio_upload after insert on storage.objects
  for each row execute function count_audio_upload();
