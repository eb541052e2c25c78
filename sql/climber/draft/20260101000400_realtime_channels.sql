-- First version: tables without row level security are published, and the table of
-- channels, also without, decides nothing.

alter publication supabase_realtime add table user_profiles;
alter publication supabase_realtime add table training_plans;
alter publication supabase_realtime add table training_sessions;
alter publication supabase_realtime add table wearable_data;
alter publication supabase_realtime add table readiness_scores;
alter publication supabase_realtime add table video_content;
alter publication supabase_realtime add table content_analytics;

create table realtime_channels (
  id uuid primary key default extensions.uuid_generate_v4(),
  channel_name varchar(255) not null unique,
  table_name varchar(255),
  event_types text[] default '{INSERT,UPDATE,DELETE}',
  is_active boolean default true,
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);

insert into realtime_channels (channel_name, table_name, event_types) values
  ('user_profiles', 'user_profiles', '{UPDATE}'),
  ('training_plans', 'training_plans', '{INSERT,UPDATE,DELETE}'),
  ('training_sessions', 'training_sessions', '{INSERT,UPDATE,DELETE}'),
  ('wearable_data', 'wearable_data', '{INSERT}'),
  ('readiness_scores', 'readiness_scores', '{INSERT,UPDATE}'),
  ('video_content', 'video_content', '{INSERT,UPDATE}'),
  ('content_analytics', 'content_analytics', '{INSERT}');
