-- Learning: courses by teachers, enrolments, lessons, submissions, grades.

create table public.courses (
  id uuid primary key default gen_random_uuid(),
  teacher_id uuid not null default auth.uid() references auth.users (id),
  title text not null,
  published boolean not null default false
);

create table public.enrollments (
  course_id uuid not null references public.courses (id) on delete cascade,
  student_id uuid not null default auth.uid() references auth.users (id)
    on delete cascade,
  enrolled_at timestamptz not null default now(),
  primary key (course_id, student_id)
);

create table public.lessons (
  id uuid primary key default gen_random_uuid(),
  course_id uuid not null references public.courses (id) on delete cascade,
  position integer not null,
  content text not null,
  free_preview boolean not null default false,
  unique (course_id, position)
);

create table public.submissions (
  id uuid primary key default gen_random_uuid(),
  lesson_id uuid not null references public.lessons (id) on delete cascade,
  student_id uuid not null default auth.uid() references auth.users (id),
  answer text not null,
  grade integer check (grade between 0 and 100),
  unique (lesson_id, student_id)
);

create function public.teaches(c uuid)
returns boolean language sql stable security definer set search_path = ''
as $$
  select exists (select 1 from public.courses
                 where id = c and teacher_id = (select auth.uid()));
$$;
create function public.is_enrolled(c uuid)
returns boolean language sql stable security definer set search_path = ''
as $$
  select exists (select 1 from public.enrollments
                 where course_id = c and student_id = (select auth.uid()));
$$;
create function public.lesson_course(l uuid)
returns uuid language sql stable security definer set search_path = ''
as $$
  select course_id from public.lessons where id = l;
$$;

alter table public.courses enable row level security;
alter table public.enrollments enable row level security;
alter table public.lessons enable row level security;
alter table public.submissions enable row level security;

create policy "Published courses are listed" on public.courses for select
  to anon, authenticated using (published);
create policy "Teachers manage their courses" on public.courses for all to authenticated
  using (teacher_id = (select auth.uid())) with check (teacher_id = (select auth.uid()));

create policy "Students see their enrolments" on public.enrollments
  for select to authenticated
  using (student_id = (select auth.uid()) or public.teaches(course_id));
create policy "Students enrol in published courses" on public.enrollments
  for insert to authenticated
  with check (student_id = (select auth.uid()) and exists (
    select 1 from public.courses c where c.id = course_id and c.published));
create policy "Students leave" on public.enrollments for delete to authenticated
  using (student_id = (select auth.uid()) or public.teaches(course_id));

create policy "Lessons for the enrolled" on public.lessons for select to authenticated
  using (public.is_enrolled(course_id) or public.teaches(course_id));
create policy "Free previews" on public.lessons for select to anon, authenticated
  using (free_preview and exists (
    select 1 from public.courses c where c.id = course_id and c.published));
create policy "Teachers write lessons" on public.lessons for all to authenticated
  using (public.teaches(course_id)) with check (public.teaches(course_id));

create policy "Own submissions" on public.submissions for select to authenticated
  using (student_id = (select auth.uid())
    or public.teaches(public.lesson_course(lesson_id)));
create policy "Hand in" on public.submissions for insert to authenticated
  with check (student_id = (select auth.uid()) and grade is null
    and public.is_enrolled(public.lesson_course(lesson_id)));
create policy "Teachers grade" on public.submissions for update to authenticated
  using (public.teaches(public.lesson_course(lesson_id)))
  with check (public.teaches(public.lesson_course(lesson_id)));
