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

-- name: add_visits
-- Page views $1, of mails $2, that clicks of the seconds $3 led to, at $4, of addresses $5, with agents $6 from
-- networks $7. Returns how many do not wait there already.
with fresh as (
  insert into visit (event_id, job_id, clicked, at, url, agent, network)
  select id, job_id, clicked, at, url, agent, network::inet
    from unnest($1::uuid[], $2::bigint[], $3::timestamptz[], $4::timestamptz[], $5::text[], $6::text[], $7::text[])
      as v (id, job_id, clicked, at, url, agent, network)
   order by id
      on conflict (event_id) do nothing
  returning 1
)
select count(*) from fresh;

-- name: take_visits
-- Out of there up to 1,000 page views that wait for nothing any more, the oldest first: nobody holds a hit of
-- their time, no click that may have led there waits to be judged, and one is known, or lies unread with no host
-- that died: a view without its click would be a person's. Plan: the primary key, and for each pending_job_idx, and
-- event_contact_idx where somebody died.
with ripe as materialized (
  select event_id
    from visit v
   where at <= (select judged_until())
     and not exists (
       select from pending
        where job_id = v.job_id and kind = 'click' and class is null
          and at between v.clicked - interval '5 s' and v.clicked + interval '2 s')
     and (v.clicked + interval '2 s' <= (select read_until()) or exists (
       select from event
        where contact_id = coalesce((select contact_id from ledger where job_id = v.job_id),
                                    (select contact_id from job where id = v.job_id))
          and at between v.clicked - interval '5 s' and v.clicked + interval '2 s' and job_id = v.job_id
          and kind = 'click'))
   order by event_id
   limit 1000
     for update skip locked
), gone as (
  delete from visit using ripe where visit.event_id = ripe.event_id
  returning visit.*
)
select event_id, job_id, clicked, at, url, agent, network::text from gone order by event_id;

-- name: clicks_behind
-- The clicks of contacts $1 on mails $2 that led to a site in the seconds $3, in their order, with their classes;
-- null: nobody knows it. An address may be made some seconds after its click was noted, by a disk or a database
-- that is slow; of several a person's is meant. $4 and $5: the least and the last id of all of these.
-- Plan: event_contact_idx for each.
select c.id, c.class::text
  from unnest($1::bigint[], $2::bigint[], $3::timestamptz[]) with ordinality as a (contact_id, job_id, clicked, n)
  left join lateral (
    select id, class
      from event
     where contact_id = a.contact_id and at between a.clicked - interval '5 s' and a.clicked + interval '2 s'
       and id between $4::uuid and $5::uuid and job_id = a.job_id and kind = 'click'
     order by class = 'human' desc nulls last, at desc
     limit 1) c on true
 order by a.n;

-- name: views_follow
-- Page views that clicks $1 led to are of the class that their click is of now, where nothing else speaks against
-- them. The fences of their contacts are locked. Returns (stream, contact) of all that may have counted them.
-- Plan: the primary key, and event_contact_idx for each.
with found as materialized (
  select v.id, c.class
    from unnest($1::uuid[]) as a (id)
   cross join lateral (
     select id, contact_id, at, class from event where id = a.id and kind = 'click' offset 0) c
   cross join lateral (
     select id
       from event
      where contact_id = c.contact_id and at > c.at - interval '1 min' and kind = 'page'
        and data ->> 'click' = c.id::text and coalesce(data -> 'why', '["click"]') = '["click"]'
     offset 0) v
), meant as materialized (
  select id from event where id in (select id from found) order by id for no key update
), changed as (
  update event e
     set data = case when f.class = 'human' then e.data - 'why' || '{"class": "human"}'
                     else e.data || jsonb_build_object('class', f.class, 'why', jsonb_build_array('click')) end
    from meant m
    join found f on f.id = m.id
   where e.id = m.id
  returning e.contact_id
)
select stream_id, contact_id from engagement where contact_id in (select contact_id from changed);

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
