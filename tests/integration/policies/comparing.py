"""A schema of teams with notes, and what its comparison with a changed one came to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from harness.events import Event, Finding, Undecided
from harness.policies.diff import DiffSummary

TEAMS = """
create table public.teams (
  id uuid primary key default gen_random_uuid(),
  name text not null
);
create table public.team_members (
  team_id uuid not null references public.teams (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  role text not null default 'member' check (role in ('admin', 'member')),
  primary key (team_id, user_id)
);
create table public.notes (
  id uuid primary key default gen_random_uuid(),
  team_id uuid not null references public.teams (id) on delete cascade,
  author_id uuid not null references auth.users (id) on delete cascade,
  title text not null,
  secret text,
  status text not null default 'draft' check (status in ('draft', 'published'))
);

create function public.is_member(wanted uuid) returns boolean
language sql stable security definer set search_path = '' as $$
  select exists (select from public.team_members m
    where m.team_id = wanted and m.user_id = auth.uid())
$$;
create function public.rename_note(note uuid, new_title text) returns void
language plpgsql security definer set search_path = '' as $$
begin
  update public.notes set title = new_title
  where id = note and author_id = auth.uid();
end $$;

alter table public.teams enable row level security;
alter table public.team_members enable row level security;
alter table public.notes enable row level security;

create policy teams_read on public.teams for select to authenticated
  using (public.is_member(id));
create policy members_read on public.team_members for select to authenticated
  using (public.is_member(team_id));
create policy notes_read on public.notes for select to authenticated
  using (author_id = auth.uid() or status = 'published' and public.is_member(team_id));
create policy notes_write on public.notes for all to authenticated
  using (author_id = auth.uid())
  with check (author_id = auth.uid() and public.is_member(team_id));

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
values ('papers', 'papers', false, 1000, array['image/png']);
create policy papers_own on storage.objects for all to authenticated
  using (bucket_id = 'papers'
    and (storage.foldername(name))[1] = auth.uid()::text)
  with check (bucket_id = 'papers'
    and (storage.foldername(name))[1] = auth.uid()::text);

create policy topics on realtime.messages for select to authenticated
  using (split_part(realtime.topic(), ':', 1) = 'team'
    and split_part(realtime.topic(), ':', 2) in (
      select m.team_id::text from public.team_members m where m.user_id = auth.uid()));
"""


@dataclass
class Compared:
    """What a comparison came to."""

    summary: DiffSummary
    events: list[Event] = field(default_factory=list)

    @property
    def changes(self) -> set[tuple[str, str, str]]:
        """Object, command and direction of every change."""
        return {(g.object, g.command, g.direction) for g in self.summary.groups}

    @property
    def findings(self) -> list[Finding]:
        """What fails the comparison."""
        found = [e for e in self.events if isinstance(e, Finding)]
        return [finding for finding in found if finding.severity != "note"]

    def assert_silent(self) -> None:
        """Fail with every change and everything undecided."""
        told = [e.message for e in self.events if isinstance(e, Finding)]
        told = [text for text in told if not text.startswith("new columns")]
        told += [e.reason for e in self.events if isinstance(e, Undecided)]
        assert not told, "\n".join(told)


Compare = Callable[..., Compared]
