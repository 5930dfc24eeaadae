-- The tracker: hits from the journal, what becomes of them, and where links lead. tracker/store.py.

-- name: ingest
-- What may earn points waits in pending until it is judged with all that was asked of the
-- same mail. $1 event ids, $2 kinds, $3 times, $4 jobs, $5 links, $6 methods, $7 agents,
-- $8 networks. Whose mail it was is asked when it is judged, and so is whether it was
-- judged before, by the key of event. These may wait there already; returns how many do not.
with queued as (
  insert into pending (event_id, job_id, kind, link_id, at, method, agent, network)
  select id, job_id, kind::sign_kind, link_id, at, method, agent, network::inet
    from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::bigint[], $5::int[], $6::text[], $7::text[], $8::text[])
      as h (id, kind, at, job_id, link_id, method, agent, network)
   order by id
      on conflict (event_id) do nothing
  returning 1
)
select count(*) from queued;

-- name: ingest_new
-- The same of hits of which none can be there: looking for each costs 2.5 of its 7 µs.
insert into pending (event_id, job_id, kind, link_id, at, method, agent, network)
select id, job_id, kind::sign_kind, link_id, at, method, agent, network::inet
  from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::bigint[], $5::int[], $6::text[], $7::text[], $8::text[])
    as h (id, kind, at, job_id, link_id, method, agent, network)
 order by id;

-- name: ingest_decided
-- What can earn nothing is an event at once. $1 event ids, $2 kinds, $3 times, $4 jobs (0:
-- nobody's), $5 links, $6 contacts, $7 programs, $8 methods, $9 agents, $10 networks, $11
-- classes (null: nothing to judge), $12 the reasons for them, joined by commas.
-- Whose mail it was stands in the ledger, or still in the queue: one snapshot shows each
-- job in exactly one of them. Returns how many were new.
-- Plan: single-row look-ups by primary key; in the queue only for what the ledger does
-- not have, as in ripe_jobs.
with hit as (
  select *
    from unnest($1::uuid[], $2::text[], $3::timestamptz[], $4::bigint[], $5::int[], $6::bigint[],
                $7::int[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[])
      as h (id, kind, at, job_id, link_id, contact_id, program_id, method, agent, network, class, why)
), placed as materialized (
  select h.*,
         coalesce(l.contact_id, j.contact_id, nullif(h.contact_id, 0)) as who,
         coalesce(l.stream_id, j.stream_id, p.stream_id) as stream_id
    from hit h
    left join lateral (select job_id, contact_id, stream_id from ledger where job_id = h.job_id) l on true
    left join lateral (
      select contact_id, stream_id from job where id = h.job_id and l.job_id is null offset 0) j on true
    left join lateral (select stream_id from program where id = h.program_id) p on true
), fresh as (
  insert into event (id, kind, at, contact_id, stream_id, job_id, link_id, class, data)
  select id, kind, at, who, stream_id, nullif(job_id, 0), nullif(link_id, 0), class::hit_class,
         jsonb_strip_nulls(jsonb_build_object(
           'method', method, 'agent', agent, 'network', network, 'program', nullif(program_id, 0),
           'why', to_jsonb(string_to_array(nullif(why, ''), ','))))
    from placed
   order by id
      on conflict (id) do nothing
  returning 1
)
select count(*) from fresh;

-- name: known_events
-- Which of the ids $1 are written down already.
select id from event where id = any($1::uuid[]);

-- name: set_ingested_until
-- Every hit that worker $1 received before $2 is in `event`. Its flush is left to the next commit: what
-- is judged by it is flushed behind it, and a crash that takes it back makes us wait, no more.
update worker
   set ingested_until = greatest(ingested_until, $2)
  from (select set_config('synchronous_commit', 'off', true)) flush
 where id = $1 and dead is null;

-- name: settled_hits
-- The mails of up to 1,000 unjudged hits after event $1 that are the shortest settle window of
-- all streams old, the oldest first. A hit whose mail was hit again since is asked about only when
-- that has gone on for twelve windows. Returns Settled (tracker/store.py): the jobs, the last
-- of the hits, their number, the time up to which nobody holds a hit, and whether this
-- transaction is the one that judges (null: there is nothing to judge).
-- Plan: a piece of the primary key, and pending_job_idx for each. What is younger is not read:
-- grouping all that is pending took 73 µs a hit behind 5 s of 2,000 hits.
with horizon as materialized (
  select judged_until() as at
), shortest as materialized (
  select least(interval '5 s', min(make_interval(secs => (v.definition->'policy'->>'settle')::float8))) as settle
    from stream s
    join stream_version v on v.stream_id = s.id and v.version = s.version
), last as materialized (
  select w.windows,
         (lpad(to_hex(floor(1000 * extract(epoch from greatest(z.at - w.windows * s.settle, 'epoch')))::bigint), 12, '0')
          || repeat('f', 20))::uuid as id
    from horizon z, shortest s, (values (1), (12)) as w (windows)
), hit as materialized (
  select event_id, job_id
    from pending p
   where class is null
     and event_id > $1
     and event_id <= (select id from last where windows = 1)
     and (event_id <= (select id from last where windows = 12)
          or not exists (
            select
              from pending
             where job_id = p.job_id and class is null and event_id > (select id from last where windows = 1)))
   order by event_id
   limit 1000
)
select array(select distinct job_id from hit order by job_id),
       (select event_id from hit order by event_id desc limit 1),
       (select count(*) from hit),
       z.at,
       case when exists (select from hit) then pg_try_advisory_xact_lock(hashtext('mtad ripen')) end
  from horizon z;

-- name: unjudged_hits
-- All unjudged hits of jobs $1, of each the 5,000 oldest: a single link hit 10,000 times a
-- second must not outlast statement_timeout (100,000: 11 s, 135 MB) and hold up everybody's.
-- Plan: pending_job_idx.
select p.event_id, p.at, p.kind::text, p.method, p.agent, p.network::text, p.job_id, p.link_id
  from unnest($1::bigint[]) as a (job_id)
 cross join lateral (
   select * from pending where job_id = a.job_id and class is null order by at limit 5000) p;

-- name: mails_hit
-- What is known of jobs $1, but for those that are being sent: MailHit (tracker/store.py).
-- settle null: as nobody says. contact and mode null: of somebody who was erased, also where
-- a queued job still has the number; whoever has a subscription was not.
-- Plan: the queue is asked only for jobs without a ledger row, because a plan made
-- while it was empty reads the whole of it for each (110 hits, 200,000 jobs: 3 s).
with window_of as materialized (
  select s.id, make_interval(secs => (v.definition->'policy'->>'settle')::float8) as settle,
         v.definition->>'tracking' as tracking
    from stream s
    join stream_version v on v.stream_id = s.id and v.version = s.version
), asked as materialized (
  select a.job_id,
         l.job_id is not null or j.id is not null as known,
         coalesce(l.contact_id, j.contact_id) as contact_id,
         coalesce(l.stream_id, j.stream_id) as stream_id,
         coalesce(l.program_id, j.program_id) as program_id,
         coalesce(l.message_id, j.message_id) as message_id,
         l.entry_id, coalesce(l.outcome in ('delivered', 'in_doubt'), false) as arrived,
         l.dot_at, case when l.outcome = 'delivered' then l.ended end as accepted_at,
         coalesce(l.doubts, j.doubts, 0) as doubts, j.id is not null as queued
    from unnest($1::bigint[]) as a (job_id)
    left join lateral (select * from ledger where job_id = a.job_id offset 0) l on true
    left join lateral (select * from job where id = a.job_id and l.job_id is null offset 0) j on true
   where j.begun is null
), tracked as materialized (
  select message_id, count(*) as links
    from message_link
   where message_id = any(array(select distinct message_id from asked)) and position > 0 and tracked
   group by message_id
)
select a.job_id, a.known, coalesce(u.contact_id, c.id), a.stream_id, a.program_id, a.message_id, a.entry_id, a.arrived, a.dot_at,
       a.accepted_at, a.doubts, a.queued, w.settle,
       case when u.contact_id is not null or c.id is not null then coalesce(u.tracking::text, w.tracking) end,
       coalesce(t.links, 0)
  from asked a
  left join window_of w on w.id = a.stream_id
  left join tracked t on t.message_id = a.message_id
  left join lateral (
    select contact_id, tracking from subscription
     where stream_id = a.stream_id and contact_id = a.contact_id offset 0) u on true
  left join lateral (
    select id from contact where id = a.contact_id and not erased and u.contact_id is null offset 0) c on true
 order by a.job_id;

-- name: evidence
-- What else was asked of the same mails from $4 to $5: hits that earn nothing, hits
-- judged before, and looks at the unsubscribe page of the program $3, by contact $2.
-- $6 and $7 are the least and the last id of all of these, so that one partition is read,
-- or two.
-- Plan: event_contact_idx for each mail, never a scan of that time.
select e.id, e.at, e.kind, e.data->>'method', coalesce(e.data->>'agent', ''), e.data->>'network',
       r.job_id, coalesce(e.link_id, 0)
  from unnest($1::bigint[], $2::bigint[], $3::int[], $4::timestamptz[], $5::timestamptz[])
    as r (job_id, contact_id, program_id, since, until)
 cross join lateral (
   select *
     from event
    where contact_id = r.contact_id and at between r.since and r.until and id between $6::uuid and $7::uuid
      and (job_id = r.job_id and kind in ('open', 'click')
           or kind = 'unsubscribe_page' and (data->>'program')::int = r.program_id)
   offset 0
 ) e;

-- name: write_verdicts
-- Hits $1 are of class $2 (null: nobody's) for the reasons $3 (joined by commas), on mail to
-- contact $4 of stream $5: now they are events. $6: who stays in pending, with the class.
-- Returns the ids that became none: they were events before, or are not pending any more.
-- Only one sweep at a time comes here, under an advisory lock.
-- Most have a network and no reasons: an object of strings takes 1 µs less than one of anything without nulls.
with verdict as materialized (
  select *
    from unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::int[], $6::boolean[])
      as v (id, class, why, contact_id, stream_id, stays)
), gone as (
  delete from pending p
   using verdict v
   where p.event_id = v.id and not v.stays
  returning v.*, p.kind, p.at, p.job_id, p.link_id, p.method, p.agent, p.network::text
), kept as (
  update pending p
     set class = v.class::hit_class
    from verdict v
   where p.event_id = v.id and v.stays
  returning v.*, p.kind, p.at, p.job_id, p.link_id, p.method, p.agent, p.network::text
), fresh as (
  insert into event (id, kind, at, contact_id, stream_id, job_id, link_id, class, data)
  select id, kind, at, contact_id, stream_id, job_id, nullif(link_id, 0), class::hit_class,
         case when why = '' and network is not null
              then jsonb_object(array['method', method, 'agent', agent, 'network', network])
              else jsonb_strip_nulls(jsonb_build_object(
                'method', method, 'agent', agent, 'network', network,
                'why', to_jsonb(string_to_array(nullif(why, ''), ',')))) end
    from (select * from gone union all select * from kept) p
   order by id
      on conflict (id) do nothing
  returning id
)
select id from verdict where id not in (select id from fresh);

-- name: links
-- The next $3 links above id $1, and those of $2, in order of id.
-- Plan: primary key in both branches, no scan of the whole table.
select id, url, tracked, message_id
  from (
    (select id, url, tracked, message_id from message_link where id > $1 order by id limit $3)
    union all
    (select id, url, tracked, message_id from message_link where id = any($2::int[]) and id <= $1)
  ) l
 order by id;

-- name: void_visits
-- Of events $1 those that were judged a person's are a scanner's: it visited the mails of many.
-- Returns stream and contact of each. Gates come before events, as in an erasure, and here because
-- the engine asks for them next. Plan: single-row look-ups by primary key.
with gates as materialized (
  select contact_id
    from gate
   where contact_id in (select contact_id from event where id = any($1::uuid[]))
   order by contact_id
     for no key update
), meant as materialized (
  select id
    from event
   where id = any($1::uuid[]) and class = 'human' and (select count(*) from gates) >= 0
   order by id
     for no key update
)
update event e
   set class = 'scanner', data = e.data || jsonb_build_object('why', coalesce(e.data->'why', '[]') || '"many_mails"')
  from meant m
 where e.id = m.id
returning e.stream_id, e.contact_id;

-- name: judged_hits
-- Up to 5,000 hits of mode full with ids from $1, itself not, to $2, in order, with what was
-- said of them: JudgedHit (tracker/store.py). Only while the agent is kept.
-- Plan: a piece of the primary key.
select id, at, kind, coalesce(data->>'method', 'GET'), data->>'agent', data->>'network', coalesce(job_id, 0),
       coalesce(link_id, 0), class::text, array(select jsonb_array_elements_text(data->'why')), stream_id, contact_id,
       (data->>'program')::int
  from event
 where id > $1 and id <= $2
   and data ? 'agent'
   and (kind in ('open', 'click') and class is not null and job_id is not null or kind = 'unsubscribe_page')
 order by id
 limit 5000;

-- name: change_verdicts
-- Events $1 are of classes $2, for the reasons $3 (joined by commas). Locked as in void_visits.
with gates as materialized (
  select contact_id
    from gate
   where contact_id in (select contact_id from event where id = any($1::uuid[]))
   order by contact_id
     for no key update
), verdict as materialized (
  select * from unnest($1::uuid[], $2::text[], $3::text[]) as v (id, class, why)
), meant as materialized (
  select id
    from event
   where id = any($1::uuid[]) and (select count(*) from gates) >= 0
   order by id
     for no key update
)
update event e
   set class = v.class::hit_class,
       data = jsonb_strip_nulls(e.data || jsonb_build_object('why', to_jsonb(string_to_array(nullif(v.why, ''), ','))))
  from verdict v
  join meant m on m.id = v.id
 where e.id = v.id;
