-- First version: three indexes on a table that projects do not own (refused, which the
-- block lets pass), two of all six repeat a unique index, and one covers a deprecated
-- column.

do $$
begin
  create index idx_storage_objects_bucket on storage.objects (bucket_id);
  create index idx_storage_objects_owner on storage.objects (owner);
  create index idx_storage_objects_created_at on storage.objects (created_at);
exception
  when insufficient_privilege then
    raise notice 'the platform refuses them: %', sqlerrm;
end;
$$;
create index idx_realtime_channels_name on realtime_channels (channel_name);
create index idx_realtime_channels_active on realtime_channels (is_active);
create index idx_realtime_channels_table on realtime_channels (table_name);

create trigger update_realtime_channels_updated_at before update on realtime_channels
  for each row execute function update_updated_at_column();
