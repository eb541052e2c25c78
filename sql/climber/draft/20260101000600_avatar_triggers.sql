-- First version: triggers that run as whoever uploads, call storage.url, ignore
-- overwrites and moves, and forget the newer picture when an older one goes.

create or replace function handle_avatar_upload() returns trigger
language plpgsql as $$
begin
  if new.bucket_id = 'user-avatars' then
    update user_profiles
    set profile_image_url = storage.url('user-avatars', new.name)
    where id::text = (storage.foldername(new.name))[1];
  end if;
  return new;
end;
$$;
create trigger avatar_upload_trigger after insert on storage.objects
  for each row execute function handle_avatar_upload();

create or replace function handle_avatar_deletion() returns trigger
language plpgsql as $$
begin
  if old.bucket_id = 'user-avatars' then
    update user_profiles set profile_image_url = null
    where id::text = (storage.foldername(old.name))[1];
  end if;
  return old;
end;
$$;
create trigger avatar_deletion_trigger after delete on storage.objects
  for each row execute function handle_avatar_deletion();
