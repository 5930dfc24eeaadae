-- What is told of people beside their mail: events of servers, and visits of pages. tracker/occurrences.py.

-- name: contacts_of
-- Who stands behind identities (kind $1, key $2), in their order; null: nobody. Merged people are
-- the contact that they became; who was erased is nobody.
-- Plan: single-row look-ups by primary key.
select c.id
  from unnest($1::text[], $2::text[]) with ordinality as a (kind, key, n)
  left join lateral (
    select contact_id from identity where kind = a.kind and key = a.key offset 0) i on true
  left join lateral (
    select coalesce(merged_into, id) as id from contact where id = i.contact_id and not erased offset 0) c on true
 order by a.n;

-- name: readers_of
-- To whom mail $1 that was made at $2 was delivered, or may have been, in their order; null: to nobody.
-- Plan: single-row look-ups by primary key.
select l.contact_id
  from unnest($1::bigint[], $2::timestamptz[]) with ordinality as a (job_id, made, n)
  left join lateral (
    select contact_id from ledger
     where job_id = a.job_id and created = a.made and outcome in ('delivered', 'in_doubt') offset 0) l on true
 order by a.n;

-- name: take_keys
-- Events $3 with the keys $2 of source $1: those that were not told before.
insert into event_key (source, key, event_id)
select $1, a.key, a.event_id
  from unnest($2::text[], $3::uuid[]) as a (key, event_id)
 order by a.key
    on conflict do nothing
returning event_id;

-- name: add_occurrences
-- Events $1 of kinds $2 at $3, of contacts $4, with data $5. Returns those that were new.
insert into event (id, kind, at, contact_id, data)
select a.id, a.kind, a.at, a.contact_id, a.data
  from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::bigint[], $5::jsonb[]) as a (id, kind, at, contact_id, data)
 order by a.id
    on conflict do nothing
returning id;

-- name: tie
-- External ids $1 are those of contacts $2, where they are nobody's yet.
insert into identity (kind, key, contact_id)
select distinct on (a.key) 'external', a.key, a.contact_id
  from unnest($1::text[], $2::bigint[]) as a (key, contact_id)
 order by a.key
    on conflict do nothing;

-- name: attribute_types
select name, type from attribute;

-- name: lock_gates_of
-- The fences of contacts $1: an attribute may decide about an audience.
select contact_id from gate where contact_id = any($1::bigint[]) order by contact_id for no key update;

-- name: erased_of
select id from contact where id = any($1::bigint[]) and erased;

-- name: set_attributes
-- Of contacts $1, each once, $2 over what is there; verdicts about them are stale. Their fences are locked.
with given as materialized (
  select * from unnest($1::bigint[], $2::jsonb[]) as a (contact_id, attributes)
), fences as (
  update gate set version = version + 1 from given where gate.contact_id = given.contact_id
)
update contact
   set attributes = jsonb_strip_nulls(contact.attributes || given.attributes)
  from given
 where contact.id = given.contact_id;

-- name: visited_mails
-- Whose mails $1 were, if they may be measured whole now, on the mail's stream: job and contact.
-- Plan: single-row look-ups by primary key; in the queue only what the ledger does not have.
select a.job_id, m.contact_id
  from unnest($1::bigint[]) as a (job_id)
  left join lateral (select contact_id, stream_id from ledger where job_id = a.job_id offset 0) l on true
  left join lateral (
    select contact_id, stream_id from job where id = a.job_id and l.stream_id is null offset 0) j on true
 cross join lateral (
   select coalesce(l.contact_id, j.contact_id) as contact_id, coalesce(l.stream_id, j.stream_id) as stream_id) m
  join contact c on c.id = m.contact_id and not c.erased
  join stream s on s.id = m.stream_id
  join stream_version v on v.stream_id = s.id and v.version = s.version
  left join lateral (
    select tracking from subscription where stream_id = m.stream_id and contact_id = m.contact_id offset 0) u on true
 where coalesce(u.tracking::text, v.definition->>'tracking') = 'full';
