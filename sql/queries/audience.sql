-- An import is one transaction: rows are copied into `incoming`, then each query
-- below does one thing to all of them. `incoming` exists only inside it.

-- name: make_incoming
-- The good rows of the file. `held`: why this row gets no permission; such a row
-- makes no contact either, but still updates one that is known.
create temporary table incoming (
  line int not null,
  key text collate "C" not null,
  address text not null,
  domain text collate "C" not null,
  attributes text not null,
  locale text,
  zone text,
  external_id text collate "C",
  source text,
  consent_at timestamptz,
  tracking text,
  last_sign timestamptz,
  mails_since_sign int not null default 0,
  state text,
  held text
) on commit drop;

-- name: index_incoming_keys
-- Every join below has an index on both of its sides, because the estimates are
-- poor inside one transaction: a subscribe of 100,000 new contacts was planned as
-- nested loops over the whole table, and did not end in 10 minutes (but for that of each domain with
-- its first contact: both are of `incoming`, which is analyzed). Built when all rows are there, which costs less than keeping it up with every row.
create index incoming_key_idx on incoming (key);

-- name: index_incoming_lines
create unique index incoming_line_idx on incoming (line);

-- name: analyze_incoming
-- Only what is joined, grouped or asked for: the attributes would be half of the work.
analyze incoming (line, key, domain, external_id, tracking, last_sign, state, held);

-- name: lock_imports
-- One import at a time: it decides the types of attributes, and two that insert the
-- same people would wait for each other anyway. Readers are not held up.
lock table attribute in share row exclusive mode;

-- name: attribute_types
select name, type from attribute;

-- name: stream_of_name
-- The newest version of a stream.
select s.id, v.definition
from stream s join stream_version v on v.stream_id = s.id and v.version = s.version
where s.name = $1;

-- name: drop_doubles
-- Of several rows for one address the last one counts; the others, with its line.
with last as (select key, max(line) as line from incoming group by key having count(*) > 1)
delete from incoming i using last
where i.key = last.key and i.line < last.line
returning i.line, i.address, last.line as winner;

-- name: drop_shared_external_ids
-- Of several addresses with one external id in the file the last one counts.
with last as (
  select external_id, max(line) as line from incoming
  where external_id is not null group by external_id having count(*) > 1
)
delete from incoming i using last
where i.external_id = last.external_id and i.line < last.line
returning i.line, i.address, last.line as winner;

-- name: drop_foreign_external_ids
-- An external id that is another contact's already.
delete from incoming i using identity e join contact c on c.id = e.contact_id
where e.kind = 'external' and e.key = i.external_id and c.address_key <> i.key
returning i.line, i.address, i.external_id;

-- name: hold_suppressed
-- Two joins, because one on `key in (…)` cannot be hashed.
with open as (
  select key, scope, reason from suppression where released is null and until > now()
), found as (
  select i.line, o.scope, o.reason, false as of_domain from incoming i join open o on o.key = i.key
  union all
  select i.line, o.scope, o.reason, true from incoming i join open o on o.key = '@' || i.domain
), first as (
  select distinct on (line) line, reason, of_domain from found order by line, of_domain, scope
)
update incoming i
set held = case when f.of_domain then 'suppressed_domain'
                when f.reason = 'complained' then 'complained'
                else 'suppressed:' || f.reason end
from first f where i.line = f.line
returning i.line, i.address, i.held, exists (select from contact c where c.address_key = i.key) as known;

-- name: hold_unpermitted
-- Whoever has a permission row on stream $1 that is not an open one.
update incoming i
set held = case s.status when 'unconfirmed' then 'not_confirmed' else s.status::text end
from contact c join subscription s on s.contact_id = c.id
where c.address_key = i.key and s.stream_id = $1 and s.status <> 'subscribed' and i.held is null
returning i.line, i.address, i.held, true as known;

-- name: add_domains
-- In the order of their first contacts, so that of their sites too, about, and of what is claimed together.
insert into domain (name)
select i.domain from incoming i
where i.held is null and not exists (select from domain d where d.name = i.domain)
group by i.domain
order by min(i.key)
on conflict do nothing;

-- name: change_contacts
-- Bring known contacts up to date: filled cells replace, empty ones leave what is
-- there. Only contacts in which something changes are locked and raised: also whoever was
-- known by a form only, and is not any more.
with changed as materialized (
  select c.id, i.line
  from incoming i join contact c on c.address_key = i.key
  where (c.address, c.locale, c.zone, c.attributes)
        is distinct from (i.address, coalesce(i.locale, c.locale), coalesce(i.zone, c.zone),
                          c.attributes || i.attributes::jsonb)
     or c.by_form
), locked as materialized (
  select g.contact_id, h.line from gate g join changed h on h.id = g.contact_id
  order by g.contact_id for no key update of g
), raised as (
  update gate g set version = version + 1 from locked l where g.contact_id = l.contact_id
)
update contact c
set address = i.address,
    locale = coalesce(i.locale, c.locale),
    zone = coalesce(i.zone, c.zone),
    attributes = c.attributes || i.attributes::jsonb,
    by_form = false
from locked l join incoming i on i.line = l.line
where c.id = l.contact_id;

-- name: add_contacts
-- Whoever is not known and not held, with gate row and identity. In order of the key, but all of a
-- domain of which the file has 16 at most beside its first: what is sent to small domains is claimed
-- and settled domain by domain, and then finds its rows in the same pages. With 64 it would save a third more,
-- and a send that is spread over hours would go to such a domain in one go. Imports do not overlap and others
-- make one contact in a transaction, so no two can deadlock. An identity of kind
-- email is only made here, for the key of a contact that this statement made, so it
-- cannot be there; `on conflict` for each to say so cost 1.8 µs a contact.
with domains as materialized (
  select domain, min(key) as first, count(*) <= 16 as is_small from incoming where held is null group by domain
), made as (
  insert into contact (address, address_key, domain_id, locale, zone, attributes)
  select i.address, i.key, d.id, i.locale, i.zone, i.attributes::jsonb
  from incoming i join domains n on n.domain = i.domain join domain d on d.name = i.domain
  where i.held is null and not exists (select from contact c where c.address_key = i.key)
  order by case when n.is_small then n.first else i.key end, i.key
  on conflict (address_key) do nothing
  returning id, address_key
), identities as (
  insert into identity (kind, key, contact_id) select 'email', address_key, id from made
)
insert into gate (contact_id) select id from made;

-- name: add_external_ids
insert into identity (kind, key, contact_id)
select 'external', i.external_id, c.id
from incoming i join contact c on c.address_key = i.key
where i.external_id is not null
order by i.external_id
on conflict do nothing;

-- name: subscribe
-- Permission on stream $1 for those who have no row there, and with it the history
-- that the file tells: nothing is written for a contact without one (New).
-- $2 is what the transition names as its fact; $3 the days after which a sign is
-- too old, in seconds; $4 the ignored attempts that a file may bring at most; $5 by
-- what right they are subscribed.
with added as (
  insert into subscription (stream_id, contact_id, status, basis, source, consent_at, tracking, changed_by)
  select $1, c.id, 'subscribed', $5, i.source, i.consent_at, i.tracking::tracking_mode, 'import'
  from incoming i join contact c on c.address_key = i.key
  where i.held is null
    and not exists (select from subscription s where s.stream_id = $1 and s.contact_id = c.id)
  order by c.id
  on conflict do nothing
  returning contact_id
), history as (
  select a.contact_id, i.last_sign, least(i.mails_since_sign, $4::int) as ignored,
         case when i.last_sign < now() - make_interval(secs => $3) or i.state = 'inactive' then 'cooling'
              when i.state in ('engaged', 'reactivated') then i.state
              else 'active' end as state
  from added a join contact c on c.id = a.contact_id join incoming i on i.key = c.address_key
  where i.last_sign is not null or i.mails_since_sign > 0 or i.state <> 'new'
), based as (
  insert into engagement (stream_id, contact_id, state, since, round_from, last_sign, first_sent,
                          ignored, cycle, cool_until, told, wake_at)
  select $1, h.contact_id, h.state::contact_state, now(), now(), h.last_sign, coalesce(h.last_sign, now()),
         case when h.state = 'cooling' then 0 else h.ignored end,
         case when h.state = 'cooling' then 1 else 0 end,
         case when h.state = 'cooling' then now() end,
         now(), case when h.state <> 'cooling' and h.ignored > 0 then now() end
  from history h
  order by h.contact_id
  on conflict do nothing
  returning engagement.*
), bases as (
  -- What came before is not known: a replay begins here.
  insert into engagement_base select * from based order by contact_id
), logged as (
  insert into transition (stream_id, contact_id, from_state, to_state, why, fact, at)
  select $1, contact_id, null, state, 'imported', $2, since from based where state <> 'active'
  order by contact_id
)
select (select count(*) from added) as subscribed,
       (select count(*) from based where state = 'cooling') as inactive;

-- name: tighten_tracking
-- A file may take back what a contact may be measured by, never extend it: the
-- modes stand in the order of their strictness. $2 is the stream's own mode.
with tighter as materialized (
  select c.id, i.tracking::tracking_mode as tracking
  from incoming i join contact c on c.address_key = i.key
  join subscription s on s.contact_id = c.id and s.stream_id = $1
  where i.tracking::tracking_mode > coalesce(s.tracking, $2::text::tracking_mode)
), locked as materialized (
  select g.contact_id, t.tracking from gate g join tighter t on t.id = g.contact_id
  order by g.contact_id for no key update of g
), raised as (
  update gate g set version = version + 1 from locked l where g.contact_id = l.contact_id
)
update subscription s set tracking = l.tracking, changed = now(), changed_by = 'import'
from locked l where s.stream_id = $1 and s.contact_id = l.contact_id;

-- name: register_attributes
-- Names $1 with types $2, where a contact came to have them. LIMIT, not EXISTS, so
-- that the plan is one that stops at the first.
insert into attribute (name, type)
select name, type from unnest($1::text[], $2::text[]) as given (name, type)
where (select true from incoming i join contact c on c.address_key = i.key
       where i.attributes::jsonb ? given.name limit 1)
order by name
on conflict do nothing;

-- name: open_suppressions
select key, scope::text, reason, source, created, nullif(until, 'infinity') as until
from suppression
where released is null and until > now()
order by key, scope;

-- ── Erased people ───────────────────────────────────────────────────────────

-- name: unknown_incoming
-- The rows of an import whose addresses nobody has.
select i.line, i.key, i.address from incoming i
 where not exists (select from contact c where c.address_key = i.key);

-- name: drop_incoming
delete from incoming where line = any($1::int[]);
