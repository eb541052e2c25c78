"""Two versions of a schema: silent where nothing changes, told where something does."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.events import Finding, Undecided
from harness.policies.diff_allow import read_allowed, write_allowed
from tests.integration.policies.comparing import TEAMS, Compare

READ = "alter policy notes_read on public.notes using"
OWN = "author_id = auth.uid()"
PUBLISHED = "status = 'published' and public.is_member(team_id)"

REFACTORS = {
    "policies renamed": """
        alter policy notes_read on public.notes rename to a;
        alter policy notes_write on public.notes rename to b;""",
    "helper inlined": f"""{READ} ({OWN} or status = 'published' and team_id in (
        select m.team_id from public.team_members m where m.user_id = auth.uid()));""",
    "double negation": f"{READ} (not (not ({OWN}) and not ({PUBLISHED})));",
    "or reordered and the caller selected once": f"""
        {READ} ({PUBLISHED} or author_id = (select auth.uid()));""",
    "for all split in four": f"""
        drop policy notes_write on public.notes;
        create policy a on public.notes for select to authenticated using ({OWN});
        create policy b on public.notes for delete to authenticated using ({OWN});
        create policy c on public.notes for insert to authenticated
          with check ({OWN} and public.is_member(team_id));
        create policy d on public.notes for update to authenticated using ({OWN})
          with check ({OWN} and public.is_member(team_id));""",
    "subsumed and false policies": f"""
        create policy less on public.notes for select to authenticated
          using ({OWN} and status = 'draft');
        create policy never on public.notes for all using (false);""",
    "comments, an index, an unrelated column": """
        comment on table public.notes is 'what a team writes';
        create index on public.notes (team_id);
        alter table public.teams add column motto text;""",
    "one policy split in two": f"""
        {READ} ({OWN});
        create policy shared on public.notes for select to authenticated
          using ({PUBLISHED});""",
    "helper in plpgsql": """
        create or replace function public.is_member(wanted uuid) returns boolean
        language plpgsql stable security definer set search_path = '' as $$
        declare mine constant uuid := auth.uid();
        begin
          return 0 < (select count(*) from public.team_members m
            where m.user_id = mine and m.team_id = wanted);
        end $$;""",
    "restrictive policy that is always true": """
        create policy open on public.notes as restrictive for all using (true);""",
    "function rewritten": """
        create or replace function public.rename_note(note uuid, new_title text)
        returns void language plpgsql security definer set search_path = '' as $$
        begin
          perform from public.notes n where n.id = note and n.author_id = auth.uid();
          if found then
            update public.notes n set title = new_title where n.id = note;
          end if;
        end $$;""",
}

# What to run, and the object, command and direction that must be told.
CHANGES = {
    "helper lost its user check": (
        """create or replace function public.is_member(wanted uuid) returns boolean
        language sql stable security definer set search_path = '' as $$
          select exists (select from public.team_members m where m.team_id = wanted)
        $$;""",
        ("public.notes", "SELECT", "widened"),
    ),
    "drafts shown to the team": (
        f"{READ} ({OWN} or public.is_member(team_id));",
        ("public.notes", "SELECT", "widened"),
    ),
    "published notes hidden from the team": (
        f"{READ} ({OWN});",
        ("public.notes", "SELECT", "narrowed"),
    ),
    "new notes into any team": (
        f"alter policy notes_write on public.notes with check ({OWN});",
        ("public.notes", "INSERT", "widened"),
    ),
    "notes may be handed over": (
        """create policy give on public.notes for update to authenticated
          using (author_id = auth.uid()) with check (public.is_member(team_id));""",
        ("public.notes", "UPDATE", "widened"),
    ),
    "a DELETE policy that no SELECT policy shows": (
        """create policy sweep on public.notes for delete to authenticated
          using (status = 'draft');""",
        ("public.notes", "DELETE", "widened"),
    ),
    "row level security off": (
        "alter table public.team_members disable row level security;",
        ("public.team_members", "SELECT", "widened"),
    ),
    "column hidden": (
        """revoke select on public.notes from authenticated;
        grant select (id, team_id, author_id, title, status)
          on public.notes to authenticated;""",
        ("public.notes", "SELECT", "narrowed"),
    ),
    "definer function without its owner check": (
        """create or replace function public.rename_note(note uuid, new_title text)
        returns void language plpgsql security definer set search_path = '' as $$
        begin update public.notes set title = new_title where id = note; end $$;""",
        ("public.rename_note", "CALL", "widened"),
    ),
    "function taken from the callers": (
        """revoke execute on function public.rename_note(uuid, text)
          from public, anon, authenticated;""",
        ("public.rename_note", "CALL", "narrowed"),
    ),
    "policy that recurses": (
        """create policy loop on public.team_members for select to authenticated
          using (team_id in (select m.team_id from public.team_members m));""",
        ("public.team_members", "SELECT", "error"),
    ),
    "objects of any folder": (
        """create policy papers_all on storage.objects for select to authenticated
          using (bucket_id = 'papers');""",
        ("storage.objects", "SELECT", "widened"),
    ),
    "bucket made public": (
        "update storage.buckets set public = true where id = 'papers';",
        ("storage bucket papers", "download from", "widened"),
    ),
    "bucket takes every type": (
        "update storage.buckets set allowed_mime_types = null where id = 'papers';",
        ("storage bucket papers", "upload other types to", "widened"),
    ),
    "topics of any team": (
        """alter policy topics on realtime.messages
          using (split_part(realtime.topic(), ':', 1) = 'team');""",
        ("realtime.messages", "SELECT", "widened"),
    ),
    "published without row level security": (
        """alter table public.teams disable row level security;
        alter publication supabase_realtime add table public.teams;""",
        ("public.teams", "follow changes of", "widened"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", REFACTORS)
def test_refactor_that_changes_nothing_is_silent(compare: Compare, name: str) -> None:
    compare(REFACTORS[name]).assert_silent()


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_change_is_told_with_its_direction(compare: Compare, name: str) -> None:
    sql, expected = CHANGES[name]
    compared = compare(sql)
    assert expected in compared.changes
    assert bool(compared.findings) == (expected[2] != "narrowed")


def test_widening_has_a_witness_of_few_rows_and_identities(compare: Compare) -> None:
    compared = compare(CHANGES["drafts shown to the team"][0])
    (finding,) = compared.findings
    witness = finding.witness
    assert witness is not None
    assert (witness.rows, witness.identities, witness.statements) <= (3, 2, 1)
    assert "refused by BASE, done by HEAD" in witness.sql


@pytest.mark.slow
def test_accepted_widening_passes_and_an_unused_acceptance_is_told(
    compare: Compare, tmp_path: Path
) -> None:
    sql = CHANGES["drafts shown to the team"][0]
    path = tmp_path / "accepted.toml"
    groups = compare(sql).summary.groups
    assert write_allowed(path, groups) == len(groups)
    path.write_text(path.read_text().replace('reason = ""', 'reason = "agreed"'))
    allowed = read_allowed(path)
    assert not compare(sql, allowed=allowed).findings
    unused = compare("", allowed=allowed)
    notes = [e.check for e in unused.events if isinstance(e, Finding)]
    assert notes == ["accepted_changes_occur"] * len(allowed)


@pytest.mark.slow
def test_same_seed_gives_the_same_findings(compare: Compare) -> None:
    sql = CHANGES["helper lost its user check"][0]
    told = [
        [(f.message, f.witness and f.witness.sql) for f in compare(sql).findings]
        for _ in range(2)
    ]
    assert told[0] == told[1]


def test_several_refactors_together_are_silent(compare: Compare) -> None:
    together = ("double negation", "function rewritten", "helper in plpgsql")
    compare("\n".join(REFACTORS[name] for name in together)).assert_silent()


def test_new_objects_are_judged_as_a_check_judges_them(compare: Compare) -> None:
    compared = compare(
        """create table public.extras (id uuid primary key);
        create view public.everything as select title, secret from public.notes;
        create function public.drop_note(note uuid) returns void
        language sql security definer set search_path = '' as
          $$ delete from public.notes where id = note $$;
        create function public.my_team() returns uuid stable
        language sql security definer set search_path = '' as
          $$ select m.team_id from public.team_members m
             where m.user_id = auth.uid() limit 1 $$;
        alter publication supabase_realtime add table public.notes;"""
    )
    assert {finding.where for finding in compared.findings} == {
        "public.extras",
        "public.everything",
        "public.drop_note(uuid)",
    }
    assert all(finding.witness for finding in compared.findings)
    notes = {
        e.where: e.message
        for e in compared.events
        if isinstance(e, Finding) and e.severity == "note"
    }
    assert "without RLS" in notes["public.extras"]
    assert "its readers can follow" in notes["public.notes"]


@pytest.mark.slow
def test_endless_policy_is_undecided_and_stops_nothing_else(compare: Compare) -> None:
    compared = compare(
        """alter policy members_read on public.team_members
          using (user_id = auth.uid() and pg_sleep(60) is not null);
        alter policy papers_own on storage.objects using (bucket_id = 'papers');""",
        statement_timeout_ms=400,
    )
    undecided = {e.where: e.reason for e in compared.events if isinstance(e, Undecided)}
    assert "time limit" in undecided["public.team_members"]
    assert ("storage.objects", "SELECT", "widened") in compared.changes
    assert compared.summary.took_s < 60
    assert compared.summary.undecided == len(
        [e for e in compared.events if isinstance(e, Undecided)]
    )


def test_same_schema_twice_needs_no_execution(compare: Compare) -> None:
    compared = compare("comment on table public.notes is 'what a team writes';")
    compared.assert_silent()
    assert compared.summary.decisions == 0
    assert "nothing differs" in str(compared.summary)


JOBS = """
create view public.note_titles as select id, title from public.notes;
revoke all on public.note_titles from anon, authenticated;
grant select on public.note_titles to authenticated;
create sequence public.tickets;
revoke all on sequence public.tickets from anon, authenticated;
create table public.jobs (
  id uuid primary key default gen_random_uuid(),
  owner_id uuid not null references auth.users (id) on delete cascade,
  state text not null default 'held',
  price integer,
  done boolean not null default true
);
alter table public.jobs enable row level security;
create policy own on public.jobs for all to authenticated
  using (owner_id = auth.uid()) with check (owner_id = auth.uid());
create function public.keep_done() returns trigger language plpgsql as $$
begin
  if old.done then raise exception 'done jobs are kept'; end if;
  return old;
end $$;
create trigger keep before delete on public.jobs
  for each row execute function public.keep_done();
revoke insert, truncate on public.jobs from anon, authenticated;
grant insert (id, owner_id, done) on public.jobs to authenticated;
"""
LOOSENED = """
grant update, delete on public.note_titles to authenticated;
grant usage on sequence public.tickets to authenticated;
grant truncate on public.jobs to authenticated;
grant insert (price) on public.jobs to authenticated;
alter table public.jobs alter column state set default 'ready';
drop trigger keep on public.jobs;
"""


def test_grants_defaults_triggers_views_and_sequences_are_compared(
    compare: Compare,
) -> None:
    compared = compare(LOOSENED, base=TEAMS + JOBS)
    assert {
        ("public.note_titles", "UPDATE", "widened"),
        ("public.note_titles", "DELETE", "widened"),
        ("public.tickets", "nextval", "widened"),
        ("public.jobs", "TRUNCATE", "widened"),
        ("public.jobs", "INSERT", "widened"),
        ("public.jobs", "INSERT effect", "widened"),
        ("public.jobs", "DELETE", "widened"),
    } <= compared.changes
    told = " ".join(finding.note for finding in compared.findings)
    assert "with price" in told
    assert '"state":"ready"' in told


@pytest.mark.slow
def test_what_no_difference_reaches_has_no_difference(compare: Compare) -> None:
    sql = CHANGES["helper lost its user check"][0] + LOOSENED
    some = compare(sql, base=TEAMS + JOBS)
    all_of_it = compare(sql, base=TEAMS + JOBS, everything=True)
    assert some.changes == all_of_it.changes
    assert some.summary.decisions < all_of_it.summary.decisions
