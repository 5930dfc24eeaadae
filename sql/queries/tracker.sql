-- The tracker: hits from the journal, what becomes of them, and where links lead. tracker/store.py.

-- name: ingest
-- Write hits down, each once however often its journal is read, and queue those
-- that may earn points. $1 event ids, $2 kinds, $3 times, $4 jobs (0: nobody's),
-- $5 links, $6 contacts, $7 programs, $8 methods, $9 agents, $10 networks,
-- $11 classes already certain, $12 the reasons for them, joined by commas.
-- Whose mail it was stands in the ledger, or still in the queue: one snapshot
-- shows each job in exactly one of them. Returns how many were new.
-- Plan: single-row look-ups by primary key; in the queue only for what the ledger
-- does not have, as in ripe_jobs.
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
  returning id
), queued as (
  insert into pending (event_id, job_id, kind, link_id, at, method, agent, network)
  select id, job_id, kind::sign_kind, link_id, at, method, agent, network::inet
    from placed
    join fresh using (id)
   where class is null and kind in ('open', 'click') and who is not null
   order by id
      on conflict (event_id) do nothing
)
select count(*) from fresh;

-- name: known_events
-- Which of the ids $1 are written down already.
select id from event where id = any($1::uuid[]);

-- name: set_ingested_until
-- Every hit that worker $1 received before $2 is in `event`.
update worker set ingested_until = greatest(ingested_until, $2) where id = $1 and dead is null;

-- name: ripe_jobs
-- Up to 200 jobs after job $1 whose hits can be judged: the newest is a settle
-- window of its stream old, no live worker may still hold an older one, and no
-- attempt is under way. Who asks again and again is not waited for beyond twelve
-- windows after the oldest: then all that is a window old is judged, for what
-- could make a burst of it is in by then. Of one job 5,000 at once, so that a single
-- link hit 10,000 times a second does not outlast statement_timeout (100,000: 11 s,
-- 135 MB) and hold up everybody's. Returns RipeJob (tracker/store.py).
-- Plan: the queue is asked only for jobs without a ledger row, because a plan made
-- while it was empty reads the whole of it for each (110 hits, 200,000 jobs: 3 s).
-- All that is not judged is grouped each time: 33 ms behind 100,000 hits.
with horizon as (
  select least(clock_timestamp(), min(ingested_until)) as at from worker where dead is null
), hit as (
  select job_id, min(at) as oldest, max(at) as newest, array_agg(at) as times
    from pending
   where class is null and job_id > $1
   group by job_id
)
select h.job_id, h.oldest, r.newest,
       coalesce(l.contact_id, j.contact_id),
       coalesce(l.program_id, j.program_id),
       (select count(*) from message_link k
         where k.message_id = coalesce(l.message_id, j.message_id) and k.position > 0 and k.tracked),
       l.dot_at,
       case when l.outcome = 'delivered' then l.ended end,
       coalesce(l.doubts, j.doubts, 0)
  from hit h
 cross join horizon z
  left join lateral (select * from ledger where job_id = h.job_id) l on true
  left join lateral (select * from job where id = h.job_id and l.job_id is null offset 0) j on true
  left join lateral (
    select make_interval(secs => (v.definition->'policy'->>'settle')::float8) as settle
      from stream s
      join stream_version v on v.stream_id = s.id and v.version = s.version
     where s.id = coalesce(l.stream_id, j.stream_id)) p on true
 cross join lateral (select coalesce(p.settle, interval '5 s') as settle) w
 cross join lateral (
   select max(ripe.at) as newest
     from (select t.at from unnest(h.times) as t (at) where t.at + w.settle <= z.at order by t.at limit 5000) ripe) r
 where (h.newest + w.settle <= z.at or h.oldest + 12 * w.settle <= z.at)
   and j.begun is null
 order by h.job_id
 limit 200;

-- name: lock_pending
-- The unjudged hits of jobs $1, none later than $2 (one time a job), locked in order.
select p.event_id, p.at, p.kind::text, p.method, p.agent, p.network::text, p.job_id, p.link_id
  from pending p
  join unnest($1::bigint[], $2::timestamptz[]) as r (job_id, newest) on r.job_id = p.job_id
 where p.class is null and p.at <= r.newest
 order by p.event_id
   for update of p;

-- name: evidence
-- What else was asked of the same mails from $4 to $5: hits that earn nothing, hits
-- judged before, and looks at the unsubscribe page of the program $3, by contact $2.
-- Plan: event_contact_idx.
select e.id, e.at, e.kind, e.data->>'method', coalesce(e.data->>'agent', ''), e.data->>'network',
       r.job_id, coalesce(e.link_id, 0)
  from unnest($1::bigint[], $2::bigint[], $3::int[], $4::timestamptz[], $5::timestamptz[])
    as r (job_id, contact_id, program_id, since, until)
 cross join lateral (
   select *
     from event
    where contact_id = r.contact_id and at between r.since and r.until
      and (job_id = r.job_id and kind in ('open', 'click')
           or kind = 'unsubscribe_page' and (data->>'program')::int = r.program_id)
 ) e;

-- name: write_verdicts
-- Events $1 are of class $2 for the reasons $3 (joined by commas). Those that may
-- earn points stay in pending for the fold; the others leave it.
with verdict as (
  select * from unnest($1::uuid[], $2::text[], $3::text[]) as v (id, class, why)
), locked as (
  select id from event where id = any($1::uuid[]) order by id for no key update
), told as (
  update event
     set class = v.class::hit_class,
         data = event.data || jsonb_strip_nulls(
           jsonb_build_object('why', to_jsonb(string_to_array(nullif(v.why, ''), ','))))
    from verdict v
    join locked using (id)
   where event.id = v.id
), kept as (
  update pending set class = v.class::hit_class
    from verdict v
   where pending.event_id = v.id and v.class in ('human', 'proxy')
)
delete from pending
 using verdict v
 where pending.event_id = v.id and v.class not in ('human', 'proxy');

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
