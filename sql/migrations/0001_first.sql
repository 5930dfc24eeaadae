-- The first schema. Small and hot tables stand apart from big and cold ones;
-- sql/README.md gives the reasons for keys, partitions and storage settings.

-- ── Words that rows may hold ────────────────────────────────────────────────

create type program_kind as enum ('campaign', 'series', 'reactivation');
create type program_status as enum ('draft', 'scheduled', 'running', 'paused', 'done', 'cancelled');
create type contact_state as enum ('active', 'engaged', 'reactivated', 'cooling', 'trying', 'resting');
create type subscription_status as enum ('subscribed', 'unconfirmed', 'unsubscribed');
create type tracking_mode as enum ('full', 'hygiene', 'aggregate', 'none');
create type suppression_scope as enum ('all', 'marketing');
create type outcome as enum ('delivered', 'bounced', 'expired', 'skipped', 'in_doubt');
create type fault_scope as enum
  ('recipient', 'mailbox', 'message', 'sender', 'source', 'destination', 'protocol', 'policy');
create type hit_class as enum ('human', 'proxy', 'veiled', 'machine', 'scanner');
create type sign_kind as enum ('open', 'click', 'page');

-- ── Who ─────────────────────────────────────────────────────────────────────

-- What has been seen in imports, so that a template can be refused for a name
-- that nobody has, and a condition for a comparison of the wrong type.
create table attribute (
  name text primary key,
  type text not null check (type in ('text', 'number', 'date', 'bool'))
);

-- Where mail to a set of domains goes. `hosts` is empty when the domain says
-- that it takes no mail. `ready_at` is a hint: the earliest time at which a job
-- may be due here, recomputed by the housekeeper, so a lost wake-up costs
-- seconds. It is rewritten for every claim, hence the free space in its pages.
create table site (
  id int generated always as identity primary key,
  name text not null unique,
  hosts text[] not null,
  ready_at timestamptz not null default '-infinity',
  passed_prio smallint not null default 12,  -- a hint, too: of this prio (bulk that chose none has 12) nothing waits
                                             -- up to and with this job
  passed_due timestamptz not null default '-infinity',
  passed_id bigint not null default 0
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
create index site_ready_idx on site (ready_at);

create table domain (
  id int generated always as identity primary key,
  name text collate "C" not null unique,
  site_id int references site,               -- null: not resolved yet
  resolve_at timestamptz not null default '-infinity',
  absent_since timestamptz,                  -- since then DNS says each time that it does not exist
  trouble text,                              -- why the last question had no answer that helps
  mta_sts jsonb                              -- its policy (mtad/wire/policy.py)
);
create index domain_resolve_idx on domain (resolve_at);

-- Domains that have left a site where mail may wait for them; gone when it has followed.
create table domain_move (
  domain_id int not null references domain,
  from_site int not null references site,
  moved timestamptz not null default now(),
  primary key (domain_id, from_site)
);

create table contact (
  id bigint generated always as identity primary key,
  address text not null,                     -- as it was given
  address_key text collate "C" not null unique,
  domain_id int not null,
  locale text,
  zone text,
  attributes jsonb not null default '{}',
  erased boolean not null default false,
  by_form boolean not null default false,    -- somebody typed it into a form, and no file brought it: may be forgotten
  merged_into bigint references contact,
  created timestamptz not null default now(),
  erased_at timestamptz
);
create index contact_erased_idx on contact (erased_at) where erased;
create index contact_merged_idx on contact (merged_into) where merged_into is not null;
create index contact_domain_idx on contact (domain_id, id); -- mail follows its domain, page by page

-- 'birthday 05-12' for each date among the attributes: a yearly program finds whose day it is. Not
-- indexed: an index of it made an import of 100,000 take 2 s longer, for a search once a day.
create function days_of_year(attributes jsonb) returns text[] language plpgsql immutable parallel safe as $$
begin
  return array(
    select key || ' ' || substr(value, 6, 5) from jsonb_each_text(attributes) where value ~ '^\d{4}-\d\d-\d\d');
end $$;

-- A contact's row is never deleted, only emptied (`erased`), and no domain's is;
-- contact, identity, gate and subscription are written from such rows in the same
-- transaction: a foreign key would lock 100,000 rows one by one in every import to
-- learn what it knows.
create table identity (
  kind text collate "C" not null,            -- email, external, cookie, phone
  key text collate "C" not null,
  contact_id bigint not null,
  primary key (kind, key)
);
create index identity_contact_idx on identity (contact_id);

-- One narrow row a person: the fence of begin. Whatever makes somebody less
-- eligible raises `version` in its own transaction.
create table gate (
  contact_id bigint primary key,
  version int not null default 1,
  sent timestamptz[],                        -- the last 16 sends of each stream, in order, while caps count them
  sent_on int[]                              -- the stream of each
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- One row, raised by whatever concerns everybody: a suppressed domain, a policy.
create table epoch (
  one boolean primary key default true check (one),
  version int not null default 1
) with (fillfactor = 10);
insert into epoch default values;

-- `key` is an address key, or '@' and a domain. Rows are closed; some years later they go.
create table suppression (
  id bigint generated always as identity primary key,
  key text collate "C" not null,
  scope suppression_scope not null,
  reason text not null,                      -- hard_bounce, mailbox_full, manual, complained, erased
  source text not null,
  created timestamptz not null default now(),
  until timestamptz not null default 'infinity',
  released timestamptz
);
create unique index suppression_open_idx on suppression (key, scope) where released is null;
create index suppression_over_idx on suppression (least(until, released));
create index suppression_complained_idx on suppression (created) where reason = 'complained';

-- ── What and by which rules ─────────────────────────────────────────────────

create table stream (
  id int generated always as identity primary key,
  name text not null unique,
  version int not null
);

create table stream_version (
  stream_id int not null references stream,
  version int not null,
  definition jsonb not null,                 -- sender identity, policy
  made timestamptz not null default now(),
  made_by text not null,
  primary key (stream_id, version)
);

create table subscription (
  stream_id int not null,
  contact_id bigint not null,
  status subscription_status not null,
  basis text not null check (basis in ('consent', 'existing_customer', 'contract')),
  source text not null,
  consent_at timestamptz,
  tracking tracking_mode,                    -- null: the stream's
  break_until timestamptz,
  last_open date,                            -- mode hygiene: all that is kept of opens
  changed timestamptz not null default now(),
  changed_by text not null,                  -- import, one_click, page, operator, …
  primary key (stream_id, contact_id)
);
create index subscription_contact_idx on subscription (contact_id);
create index subscription_changed_idx on subscription (stream_id, changed, contact_id); -- for programs that stay open
create index subscription_break_idx on subscription (stream_id, break_until, contact_id) where break_until is not null;

-- contact × stream, engine/README.md. No row: New. New is also a row without
-- `first_sent`. `wake_at` is the only indexed time: hot updates must not touch one.
create table engagement (
  stream_id int not null,
  contact_id bigint not null,
  state contact_state not null default 'active',
  since timestamptz not null,
  version int not null default 1,
  score int not null default 0,
  round_from timestamptz not null,
  last_sign timestamptz,
  first_sent timestamptz,
  window_until timestamptz,
  veiled boolean not null default false,
  ignored smallint not null default 0,
  unclear smallint not null default 0,
  cycle smallint not null default 0,
  cool_until timestamptz,
  wake_at timestamptz,
  told timestamptz not null default '-infinity', -- time of the last fact or timer in it
  held timestamptz,                          -- a replay is due once journals are read up to here
  primary key (stream_id, contact_id)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
create index engagement_contact_idx on engagement (contact_id);
create index engagement_wake_idx on engagement (stream_id, wake_at, contact_id) where wake_at is not null;
-- Whose cool-down ends when, and who is being won back. Only a change of state writes to them.
create index engagement_cooling_idx on engagement (stream_id, cool_until, contact_id) where state = 'cooling';
create index engagement_trying_idx on engagement (stream_id, contact_id) where state = 'trying';

-- The same rows as they were at `told`, when something was set that no fact tells of (an
-- import, a consent withdrawn): a replay begins there.
create table engagement_base (like engagement including defaults, primary key (stream_id, contact_id));

-- What holds the sweeps of a stream. Up to `released` an operator has looked.
create table brake (
  stream_id int primary key references stream,
  stopped timestamptz,                       -- null: it does not hold
  silent int not null default 0,             -- would have been paused
  allowed int not null default 0,
  reachable int not null default 0,          -- counted once a day, where it matters
  counted timestamptz not null default '-infinity',
  released timestamptz not null default '-infinity',
  released_by text,
  listened timestamptz not null default '-infinity' -- provider_signs has the mail up to then
);

-- Of a sample of the mail that came, by who took it and when (half windows of the stream): how much was
-- answered within half a window.
create table provider_signs (
  stream_id int not null references stream,
  provider text collate "C" not null,
  at timestamptz not null,
  mails int not null,
  answered int not null,
  primary key (stream_id, provider, at)
);

-- When we heard too little from a provider to believe its silence. Rows are closed, never deleted.
create table provider_hold (
  stream_id int not null references stream,
  provider text collate "C" not null,
  since timestamptz not null,
  until timestamptz not null,                -- prolonged for as long as it lasts
  why text not null,
  lifted timestamptz,
  primary key (stream_id, provider, since)
);

-- Whether a stream's tracking address answers from outside, as mtad/ops/reach.py found last.
create table reach (
  stream_id int primary key references stream,
  address text not null,
  good timestamptz not null,                 -- its last answer; where there was none, when it was first asked
  answered boolean not null,                 -- whether there ever was one
  asked timestamptz not null,
  failures int not null,                     -- since `good`
  holds boolean not null,                    -- silence is concluded up to `good` only
  why text not null
);

-- When it did not, so that nobody of the stream could be heard.
create table unreached (
  stream_id int not null references stream,
  since timestamptz not null,
  until timestamptz not null,
  primary key (stream_id, since)
);

-- From when on what was concluded of a stream's people at a provider ('*': at any) is to be replayed,
-- for we were deaf; up to `done` of its contacts the sweep knows by now.
create table recall (
  stream_id int not null references stream,
  provider text collate "C" not null,
  since timestamptz not null,
  done bigint not null default 0,
  primary key (stream_id, provider, since)
);

create table program (
  id int generated always as identity primary key,
  name text not null unique,
  kind program_kind not null,
  stream_id int not null references stream,
  class smallint not null,                   -- 0 transactional, 1 triggered, 2 bulk
  rank smallint not null default 5,
  status program_status not null default 'draft',
  version int not null,                      -- the definition that new entries get
  fence int not null default 1,              -- raised by pause, cancel and edits; begin compares it
  why text,                                  -- of the status
  starts timestamptz,
  not_after timestamptz,
  enqueued_to bigint not null default 0,     -- contacts up to this id are in
  enqueued timestamptz,                      -- all of them are
  open_to timestamptz,                       -- who became eligible up to then was let in; null: up to the start
  open_contact bigint not null default 0,    -- at that very moment: up to this contact
  next_slot timestamptz,                     -- when the next first mail may be due, where there is a max_rate
  day date,                                  -- of a yearly program: whose day was taken last
  created timestamptz not null default now()
);

create table program_version (
  program_id int not null references program,
  version int not null,
  definition jsonb not null,
  made timestamptz not null default now(),
  made_by text not null,
  primary key (program_id, version)
);

-- The text of one send node of one version. `parts` holds subject, html and txt
-- with the links of html already replaced by calls with their positions.
create table message (
  id int generated always as identity primary key,
  program_id int not null references program,
  version int not null,
  node text collate "C" not null,
  variant text not null default '',
  weight smallint not null default 1,
  name text not null,
  parts jsonb not null,
  pixel boolean not null,
  unique (program_id, version, node, variant)
);

-- Ids stand in tokens for ever: rows are never deleted.
create table message_link (
  id int generated always as identity primary key,
  message_id int not null references message,
  position smallint not null,                -- 0 is the pixel, links count from 1
  url text not null,                         -- '' for the pixel; {0}, {1} stand for values
  tracked boolean not null default true,
  unique (message_id, position)
);

create table entry (
  id bigint generated always as identity primary key,
  program_id int not null,
  version int not null,
  contact_id bigint,                         -- null once erased
  stream_id int not null,
  key text not null default '',
  node text collate "C" not null,
  due timestamptz,                           -- null while a job of this entry is queued
  entered timestamptz not null default now(),
  ended timestamptz,
  why text,                                  -- of the end
  via text not null default 'enrol',         -- enrol, redirect, then
  round smallint not null default 0          -- the how-manieth time that this person is in the program
) with (fillfactor = 80);
create unique index entry_running_idx on entry (program_id, contact_id, key) where ended is null;
create index entry_contact_idx on entry (contact_id, stream_id);
create index entry_due_idx on entry (due) where ended is null and due is not null;
create index entry_engaged_idx on entry (program_id, ended, contact_id) where why = 'engaged'; -- for `then`

-- ── What is due ─────────────────────────────────────────────────────────────

-- Without a cache, for 0.25 µs a mail: an idle connection would queue with the ids of an hour ago,
-- behind what standing orders have passed and in partitions of the past.
create sequence job_id;

-- The queue: thin, because bodies are rendered when a session wants them.
-- waiting: worker is null. claimed: worker. begun: worker and begun. parked: its program is paused.
-- No index knows of `worker` or `begun`: claim and begin write the row in its page (HOT), and nothing else.
-- in doubt: doubts > 0 after a worker died or a 250 was lost in between.
create table job (
  id bigint primary key default nextval('job_id'),
  contact_id bigint not null,
  stream_id int not null,
  program_id int not null,
  version int not null,
  message_id int not null,
  entry_id bigint,
  site_id int,                               -- null: the domain is not resolved yet
  class smallint not null,
  prio smallint not null,                    -- class × 2, of bulk 2 + rank × 2; + 1 after the first attempt
  attempt smallint not null default 0,
  doubts smallint not null default 0,
  parked boolean not null default false,
  worker int,
  due timestamptz not null,
  not_after timestamptz not null,
  created timestamptz not null default now(),
  begun timestamptz,
  slot timestamptz,                          -- which of gate.sent is this mail's
  reason text                                -- why it waits: the last reply, or the verdict
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000,
        autovacuum_vacuum_cost_delay = 0);
create index job_due_idx on job (site_id, prio, due, id) where not parked;
create index job_urgent_idx on job (due) where not parked and prio < 2 and site_id is not null;
create index job_contact_idx on job (contact_id);
create index job_program_idx on job (program_id);
create index job_doubt_idx on job (id) where doubts > 0;

-- Mail of these contacts that waits for a cap is due now, for a slot of theirs is free again, and
-- the gate says which of it goes. Returns the sites that have something due. A function, for who was
-- put off while we waited for the gates' locks is seen by a later look alone. Passes over what is
-- locked: the caller may hold tallies, which come behind jobs, and whoever has the job may wait for them.
create function wake_capped(contacts bigint[]) returns int[] language plpgsql as $$
declare
  sites int[];
begin
  with jobs as materialized (
    select id
      from job
     where contact_id = any(contacts) and begun is null and due > now() and reason like 'cap:%'
     order by id
       for no key update skip locked
  ), woken as (
    update job set due = now() from jobs where job.id = jobs.id returning job.site_id
  )
  select array_agg(distinct site_id) filter (where site_id is not null) into sites from woken;
  return sites;
end $$;

-- Where to look for what a worker holds: the jobs of its claims, of which some are settled or back.
create table lease (
  id bigint generated always as identity primary key,
  worker int not null,
  jobs bigint[] not null
) with (autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

create table job_data (
  job_id bigint primary key,
  vars jsonb not null
);

-- Written by the statement that makes the job, so nobody gets a step twice, a
-- resumed enqueue adds nothing, and the audit knows how many there were.
create table enrolled (
  program_id int not null,
  node text collate "C" not null,
  round smallint not null default 0,         -- of the entry; of a campaign: 1 for who was let in later, the year
  contact_id bigint not null,
  job_id bigint not null,
  primary key (program_id, node, contact_id, round)
);

-- ── Double opt-in ───────────────────────────────────────────────────────────

-- Where people sign up; `program_id` sends the mail that asks them to confirm.
create table form (
  id int generated always as identity primary key,
  name text not null unique,
  stream_id int not null references stream,
  program_id int not null references program,
  version int not null
);

create table form_version (
  form_id int not null references form,
  version int not null,
  definition jsonb not null,                 -- what it says, word for word
  made timestamptz not null default now(),
  made_by text not null,
  primary key (form_id, version)
);

-- Who uses forms, and when as often as anybody may again: for minutes. A crash may forget it.
create unlogged table form_use (
  key text collate "C" primary key,          -- a household, or 'in ' and the network in which it stands
  full_at timestamptz not null
);

-- What somebody agreed to and how we know; the row is made with the mail that asks for it.
-- Addresses are whole here and nowhere else, so it stands apart from hits. Unconfirmed: 7 days.
create table proof (
  job_id bigint primary key,                 -- of that mail
  contact_id bigint not null,
  stream_id int not null,
  form_id int not null,
  form_version int not null,
  address text not null,                     -- as it was typed
  page text not null,                        -- where the form stood, as far as the browser told
  consent text not null,                     -- the words that were agreed to
  measuring text,                            -- those about measuring; null: not agreed to
  asked timestamptz not null,
  asked_ip inet,
  asked_agent text not null,
  message_id text not null,
  due timestamptz not null,                  -- not before that was the mail sent
  sent timestamptz,                          -- when that mail ended, and what the server said
  reply text,
  confirmed timestamptz,
  confirmed_ip inet,
  confirmed_agent text,
  ended timestamptz                          -- since when nobody is mailed by it: the row goes some years later
);
-- Access of its own: a role that may read all tables, and is not their owner, finds no row without a policy.
alter table proof enable row level security;
create index proof_contact_idx on proof (contact_id, due);
create index proof_waiting_idx on proof (asked) where confirmed is null;
create index proof_unanswered_idx on proof (confirmed) where confirmed is not null and sent is null;

-- ── What became of it ───────────────────────────────────────────────────────

-- One row for each job that ended, and for each contact left out at the start.
create table ledger (
  job_id bigint primary key,
  program_id int not null,
  stream_id int not null,
  message_id int not null,
  contact_id bigint,                         -- null once erased
  entry_id bigint,
  outcome outcome not null,
  reason text not null,                      -- of a skip; the category of a bounce
  scope fault_scope,
  reply text,
  attempts smallint not null,
  doubts smallint not null,
  state_at_send contact_state,
  site_id int,
  source text,
  created timestamptz not null,              -- of the job
  begun timestamptz,
  dot_at timestamptz,                        -- the final dot was written
  ended timestamptz not null,                -- for a delivered mail: its 250
  bounced_late timestamptz
) partition by range (job_id);
create index ledger_contact_idx on ledger (contact_id, ended);
create index ledger_full_idx on ledger (contact_id, ended) where reason = 'QuotaIssues';
create index ledger_sample_idx on ledger (stream_id, ended) where outcome = 'delivered' and job_id % 4 = 0;

create table answer (
  job_id bigint not null,
  kind sign_kind not null,
  contact_id bigint not null,
  stream_id int not null,
  link_id int,
  at timestamptz not null,
  event_id uuid not null,
  points smallint not null,
  primary key (job_id, kind)
) partition by range (job_id);
create index answer_contact_idx on answer (contact_id);

-- id is a UUIDv7 minted at receipt, so ranges of ids are ranges of time.
create table event (
  id uuid primary key,
  kind text not null,                        -- open, click, unsubscribe, reply, …
  at timestamptz not null,
  contact_id bigint,
  stream_id int,
  job_id bigint,
  link_id int,
  class hit_class,                           -- null: not judged yet
  data jsonb not null default '{}'
) partition by range (id);
create index event_contact_idx on event (contact_id, at);

create table event_key (
  source text not null,
  key text not null,
  event_id uuid not null,                    -- says when it was told
  primary key (source, key)
);
create index event_key_event_idx on event_key (event_id);

-- Hits that may earn points. class null: not judged yet. Judged as a person's:
-- waits for the fold. All else has left.
create table pending (
  event_id uuid primary key,
  job_id bigint not null,
  kind sign_kind not null,
  link_id int not null,
  at timestamptz not null,
  method text not null,
  agent text not null,
  network inet,
  class hit_class
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
create index pending_job_idx on pending (job_id);
-- In a backlog each batch of the fold finds its rows at one end, whatever waits behind.
create index pending_judged_idx on pending (event_id) where class in ('human', 'proxy');

-- Page views that wait until the click that led to the site is judged.
create table visit (
  event_id uuid primary key,
  job_id bigint not null,
  clicked timestamptz not null,              -- the second of that click
  at timestamptz not null,
  url text not null,
  agent text not null,
  network inet
) with (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
create index visit_job_idx on visit (job_id);

-- Hits that are nobody's: mode aggregate, and what modes leave of the hits of others. Which
-- have been counted is known for a while, so that a journal may be read again.
create table hit_count (
  link_id int not null,                      -- of its message; position 0 is the pixel
  hour timestamptz not null,                 -- of mode hygiene the day
  class hit_class not null,                  -- by the request alone, or as judged
  n bigint not null,
  primary key (link_id, hour, class)
) with (fillfactor = 50);
create table hit_counted (
  event_id uuid primary key                  -- a hash of that, at the time in hit_count
);

create table transition (
  id bigint generated always as identity primary key,
  stream_id int not null,
  contact_id bigint not null,
  from_state contact_state,                  -- null: New
  to_state contact_state not null,
  why text not null,
  fact text not null,                        -- the event or job that led to it
  at timestamptz not null,                   -- of the fact
  made timestamptz not null default now(),
  takes_back bigint
);
create index transition_contact_idx on transition (contact_id);
create index transition_made_idx on transition (stream_id, made, contact_id);
create index transition_paused_idx on transition (stream_id, made) where why in ('attempts', 'days');

-- Counters of a program: one row per slot of workers, so that no row is hot.
-- key: 'enrolled', 'delivered', 'bounced', 'skipped:unsubscribed', …
create table tally (
  program_id int not null,
  slot smallint not null,
  key text not null,
  n bigint not null,
  primary key (program_id, slot, key)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- Where the tally of a program stood when the hour began in which its bounces are counted.
create table bounce_mark (
  program_id int primary key references program,
  at timestamptz not null default now(),
  ended bigint not null,
  bounced bigint not null
);

-- Files of what an import did not take: they hold addresses, and go by their age.
create table rejects_file (
  host text collate "C" not null,
  path text collate "C" not null,
  made timestamptz not null default now(),
  primary key (host, path)
);

-- ── Who delivers ────────────────────────────────────────────────────────────

create table worker (
  id int generated always as identity primary key,
  host text not null,
  slot smallint not null,
  pid int not null,
  started timestamptz not null default now(),
  beat timestamptz not null default now(),
  ingested_until timestamptz not null default '-infinity',
  dead timestamptz
) with (fillfactor = 20, autovacuum_vacuum_threshold = 500);

-- Those whose hits are not all in the database, for they died: until a worker that hears hits lives on
-- their host and has read on past their death (it reads what the dead left first); 7 days at most,
-- for a host that is lost must not hold up what depends on it for ever.
create view unread as
select w.*
  from worker w
 where w.ingested_until < w.dead and w.dead > now() - interval '7 d'
   and not exists (
     select from worker v
      where v.host = w.host and v.dead is null and v.ingested_until >= w.dead and v.ingested_until < 'infinity');

-- Up to when every hit that a tracker received is in the database; where the last that heard is gone
-- and others live, up to its end: they would hear nobody.
create function read_until() returns timestamptz language sql stable as $$
  select coalesce(
    (select least(min(greatest(w.ingested_until, w.started)),
                  (select min(greatest(u.ingested_until, u.started)) from unread u),
                  case when min(w.ingested_until) = 'infinity'
                       then (select max(dead) from worker where ingested_until < 'infinity') end)
       from worker w
      where w.dead is null),
    '-infinity')
$$;

-- Up to when hits may be judged: what live workers hold comes first, and what the dead left unread, for as long
-- as it takes others to begin on their host. A host that stays away must not hold up everybody's scores.
create function judged_until() returns timestamptz language sql stable as $$
  select least(
    clock_timestamp(),
    (select min(ingested_until) from worker where dead is null),
    (select min(greatest(ingested_until, started)) from unread where dead > now() - interval '2 min'))
$$;

-- egress source × site. Rate is GCRA: `tat` is the time at which the bucket
-- would be empty again (theoretical arrival time).
create table lane (
  id int generated always as identity primary key,
  source text not null default 'default',
  site_id int not null,
  rate real not null,                        -- messages a second
  burst real not null,
  sessions int not null,                     -- limit over all workers
  tat timestamptz not null default '-infinity',
  dial_tat timestamptz not null default '-infinity', -- likewise of connections
  closed_until timestamptz not null default '-infinity',
  closed_why text,
  suspended_until timestamptz not null default '-infinity', -- what the rows of `suspension` say
  most_rate real,                            -- what the rows of `lane_limit` allow; null: as above
  most_burst real,
  most_sessions int,
  provider text not null default 'other',    -- who runs the site
  unique (site_id, source)
) with (fillfactor = 30, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

-- A day on which a source that is being warmed up may send so much to a provider.
create table warmup (
  source text collate "C" not null,
  provider text collate "C" not null,
  day date not null,
  step smallint not null,                    -- of the plan, from 0
  allowed int,                               -- mails; null: the plan is over
  granted int not null default 0,            -- of them sent, or in the hands of workers
  deferred int not null default 0,           -- refused because of us
  complaints int not null default 0,         -- about the day before
  held text not null default '',             -- why the step is not a further one
  primary key (source, provider, day)
) with (fillfactor = 50);

create table lane_session (
  lane_id int not null,
  worker int not null,
  sessions int not null,
  lacking timestamptz,  -- when it last got less than its share
  primary key (lane_id, worker)
) with (fillfactor = 50);

-- As they are now: a statement that has waited for the lanes' locks sees them as they were before. Only lanes of
-- which others hold some, or have lacked some.
create function sessions_of_others(lanes int[], me int) returns table (lane int, sessions bigint, lack boolean)
language plpgsql rows 16 as $$
begin
  return query
  select s.lane_id, sum(s.sessions), coalesce(bool_or(s.lacking > now() - interval '10 s'), false)
    from lane_session s
   where s.lane_id = any(lanes) and s.worker <> me and s.worker in (select w.id from worker w where w.dead is null)
     and (s.sessions > 0 or s.lacking is not null)
   group by s.lane_id;
end $$;

-- What all sites of a provider share, from one source, where the configuration limits that.
create table provider_pace (
  source text collate "C" not null,
  provider text collate "C" not null,
  tat timestamptz not null default '-infinity',
  primary key (source, provider)
) with (fillfactor = 30);

create table provider_session (
  source text collate "C" not null,
  provider text collate "C" not null,
  worker int not null references worker on delete cascade,
  sessions int not null,
  primary key (source, provider, worker)
) with (fillfactor = 50);

-- What is held back by hand or by a rule on replies, until when and why. Rows are
-- closed, never deleted. Keys: a lane is source/site, a campaign a program's name.
create table suspension (
  id bigint generated always as identity primary key,
  kind text collate "C" not null check (kind in ('lane', 'site', 'domain', 'source', 'campaign')),
  key text collate "C" not null,
  until timestamptz not null default 'infinity',
  reason text not null,
  made_by text collate "C" not null,         -- a user, or 'automation'
  made timestamptz not null default now(),
  lifted timestamptz,
  lifted_by text
);
create unique index suspension_open_idx on suspension (kind, key, made_by) where lifted is null;

-- Purges and rebinds that go on for a while, over what arrives meanwhile.
create table standing_order (
  id bigint generated always as identity primary key,
  verb text collate "C" not null check (verb in ('purge', 'rebind')),
  kind text collate "C" not null,            -- and key: as of a suspension
  key text collate "C" not null,
  site_id int references site,               -- of a rebind: where to
  at_once boolean not null default false,    -- of a rebind: also what waits after a refusal
  until timestamptz not null,
  reason text not null,
  made_by text collate "C" not null,
  made timestamptz not null default now(),
  suspension_id bigint references suspension, -- of a purge: what keeps its mail from going meanwhile
  passed bigint not null,                    -- jobs up to this id are done with
  seen bigint not null,                      -- likewise, but some with lower ids may have been committed since
  seen_at timestamptz not null default now(),
  changed bigint not null
);

-- Limits that are set for a while, over what is configured: the lowest of all holds.
create table lane_limit (
  id bigint generated always as identity primary key,
  lane_id int not null references lane,
  knob text collate "C" not null check (knob in ('max_message_rate', 'connection_limit',
                                                 'max_deliveries_per_connection')),
  value text not null,                       -- as in the configuration
  most real not null,                        -- the same as a number: a second, sessions, messages
  burst real not null default 0,             -- of a rate
  until timestamptz not null,
  reason text not null,
  made_by text collate "C" not null,
  made timestamptz not null default now(),
  unique (lane_id, knob, value, made_by)
);

-- Replies that rules on replies count, as each worker brings them in; emptied by age.
create table reply_count (
  rule text collate "C" not null,
  key text collate "C" not null,             -- what would be suspended or limited
  at timestamptz not null default now(),
  n int not null
);
create index reply_count_idx on reply_count (rule, key, at);

-- ── Partitions ──────────────────────────────────────────────────────────────

-- Ranges of 2^24 job ids for ledger and answer, always `ahead` of them free;
-- months for event, this one and the next. Called by the migration, before each
-- enqueue and by the housekeeper.
create function make_partitions(ahead int default 2) returns int language plpgsql as $$
declare
  width constant bigint := 1 << 24;
  last bigint;
  first bigint;
  made int := 0;
  month timestamptz;
  lower_id uuid;
  upper_id uuid;
  part text;
begin
  perform pg_advisory_xact_lock(hashtext('make_partitions'));
  select coalesce(s.last_value, 0) / width into last
    from pg_sequences s where s.schemaname = current_schema() and s.sequencename = 'job_id';
  for first in select generate_series(0, coalesce(last, 0) + ahead) loop
    foreach part in array array['ledger', 'answer'] loop
      if to_regclass(format('%s_%s', part, first)) is null then
        execute format('create table %s_%s partition of %s for values from (%s) to (%s)'
                       ' with (autovacuum_freeze_min_age = 0)',
                       part, first, part, first * width, (first + 1) * width);
        made := made + 1;
      end if;
    end loop;
  end loop;
  for i in 0..1 loop
    month := date_trunc('month', now() at time zone 'UTC') at time zone 'UTC' + make_interval(months => i);
    part := 'event_' || to_char(month at time zone 'UTC', 'YYYY_MM');
    if to_regclass(part) is null then
      upper_id := (lpad(to_hex((extract(epoch from month + interval '1 month') * 1000)::bigint), 12, '0')
                   || repeat('0', 20))::uuid;
      -- The first partition takes every earlier id too: a journal may be read late.
      if not exists (select from pg_inherits where inhparent = 'event'::regclass) then
        execute format('create table %s partition of event for values from (minvalue) to (%L)', part, upper_id);
      else
        lower_id := (lpad(to_hex((extract(epoch from month) * 1000)::bigint), 12, '0')
                     || repeat('0', 20))::uuid;
        execute format('create table %s partition of event for values from (%L) to (%L)', part, lower_id, upper_id);
      end if;
      made := made + 1;
    end if;
  end loop;
  return made;
end $$;

select make_partitions();
