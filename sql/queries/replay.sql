-- What a row contact × stream is made from, as the other tables tell it: engine/history.py.
-- Read for one pair (stream, contact) after the other, each from its own moment on: an index
-- finds the range of each (LATERAL … OFFSET 0 keeps it so), as in engine.sql.

-- name: modes_of
-- The tracking modes of contacts $2 on streams $1, of those that have their own.
select stream_id, contact_id, tracking::text
  from subscription
 where (stream_id, contact_id) in (select * from unnest($1::int[], $2::bigint[])) and tracking is not null;

-- name: heard
-- Up to when all hits are in the database and folded: of those in `pending` whose mail has left
-- the queue the oldest is not. The year 1: nothing was ever heard.
-- Plan: the primary key of pending to the first such, and a look-up in the queue for each.
select least(
  clock_timestamp(),
  greatest(read_until(), '0001-01-01 UTC'),
  (select p.at
     from pending p
     left join lateral (select true as queued from job where id = p.job_id offset 0) j on true
    where j.queued is null
    order by p.event_id
    limit 1));

-- name: out_of_reach
-- Streams whose tracking address does not answer, and when all was well last.
select stream_id, good from reach where holds;

-- name: outages
-- Spans since $1 in which nobody of streams $2 (null: of any) could be heard: no worker that hears
-- hits was alive, as far as workers' rows tell, for at least 5 minutes (a window of days is not
-- prolonged by a restart); or their tracking address was out of reach.
with alive as (
  select started as since, case when dead is null then greatest(beat, clock_timestamp() - interval '20 s') else beat end
           as until
    from worker
   where ingested_until < 'infinity'
), gaps as (
  select max(until) over (order by since rows between unbounded preceding and 1 preceding) as since, since as until
    from alive
)
select s.id, g.since, g.until
  from gaps g, stream s
 where ($2::int[] is null or s.id = any($2)) and g.until > $1 and g.until - g.since >= interval '5 min'
 union all
select stream_id, since, until
  from unreached
 where ($2::int[] is null or stream_id = any($2)) and until > $1
 order by 1, 2;

-- name: mails_of
-- What came to contacts $2 from streams $1 since $3, or may have: job, outcome, time, class, pixel.
-- Plan: ledger_contact_idx, a range of it for each.
select a.stream_id, a.contact_id, l.job_id, l.outcome = 'delivered', l.ended, p.class, m.pixel
  from unnest($1::int[], $2::bigint[], $3::timestamptz[]) as a (stream_id, contact_id, since)
 cross join lateral (
   select job_id, outcome, ended, message_id, program_id
     from ledger
    where contact_id = a.contact_id and ended > a.since and stream_id = a.stream_id
      and outcome in ('delivered', 'in_doubt') and bounced_late is null
   offset 0) l
  join lateral (select pixel from message where id = l.message_id offset 0) m on true
  join lateral (select class from program where id = l.program_id offset 0) p on true;

-- name: veiled_of
-- When Apple's proxy fetched what came to contacts $2 from streams $1, since $3.
-- Plan: event_contact_idx, a range of it for each.
select a.stream_id, a.contact_id, e.id, e.at
  from unnest($1::int[], $2::bigint[], $3::timestamptz[]) as a (stream_id, contact_id, since)
 cross join lateral (
   select id, at
     from event
    where contact_id = a.contact_id and at > a.since and stream_id = a.stream_id and class = 'veiled' and kind = 'open'
   offset 0) e;

-- name: hits_of
-- People's opens and clicks since $3 on mail that arrived: Hit (engine/score.py).
select e.id, e.job_id, e.kind, coalesce(e.link_id, 0), e.at, l.stream_id, l.contact_id, l.entry_id,
       m.node, coalesce(k.position, 0), p.kind = 'reactivation'
  from unnest($1::int[], $2::bigint[], $3::timestamptz[]) as a (stream_id, contact_id, since)
 cross join lateral (
   select id, job_id, kind, link_id, at
     from event
    where contact_id = a.contact_id and at > a.since and stream_id = a.stream_id
      and class in ('human', 'proxy') and kind in ('open', 'click')
   offset 0) e
  join lateral (
    select * from ledger where job_id = e.job_id and outcome in ('delivered', 'in_doubt') offset 0) l on true
  join lateral (select node from message where id = l.message_id offset 0) m on true
  join lateral (select kind from program where id = l.program_id offset 0) p on true
  left join lateral (select position from message_link where id = e.link_id offset 0) k on true;

-- name: entries_of
-- Entries that began or ended since $3, with what a replay asks of them: Way (engine/history.py).
select a.stream_id, a.contact_id, n.id, p.name, p.kind::text, n.entered, n.ended, n.why,
       v.definition ->> 'when_silent',
       exists (
         select from entry x
          where x.contact_id = a.contact_id and x.stream_id = a.stream_id and x.id <> n.id
            and x.entered < n.entered and (x.ended is null or x.ended > n.entered))
  from unnest($1::int[], $2::bigint[], $3::timestamptz[]) as a (stream_id, contact_id, since)
 cross join lateral (
   select * from entry where contact_id = a.contact_id and stream_id = a.stream_id offset 0) n
  join program p on p.id = n.program_id
  join program_version v on v.program_id = n.program_id and v.version = n.version
 where n.entered > a.since or n.ended > a.since;

-- name: events_of
-- Facts without a mail since $3, of kinds $4: id, kind, time, until.
select a.stream_id, a.contact_id, e.id, e.kind, e.at,
       coalesce(e.data ->> 'until', e.data #>> '{properties,until}')::timestamptz
  from unnest($1::int[], $2::bigint[], $3::timestamptz[]) as a (stream_id, contact_id, since)
 cross join lateral (
   select id, kind, at, data
     from event
    where contact_id = a.contact_id and at > a.since and coalesce(stream_id, a.stream_id) = a.stream_id
      and kind = any($4::text[])
   offset 0) e;

-- name: free_of
-- What contacts $2 did without a mail since $3, on whatever stream $1 counts it: Free (engine/free.py).
-- Plan: event_contact_idx, a range of it for each.
select a.stream_id, a.contact_id, e.id, e.kind, e.at,
       coalesce(e.data -> 'properties', jsonb_build_object('url', e.data -> 'url'))
  from unnest($1::int[], $2::bigint[], $3::timestamptz[]) as a (stream_id, contact_id, since)
 cross join lateral (
   select id, kind, at, data
     from event
    where contact_id = a.contact_id and at > a.since and stream_id is null
      and (data ? 'properties' or kind = 'page' and data ->> 'class' = 'human')
   offset 0) e;

-- name: streams_of
-- Contacts $1 and the streams that they are subscribed to and may be measured on.
select u.contact_id, u.stream_id
  from subscription u
  join stream s on s.id = u.stream_id
  join stream_version v on v.stream_id = s.id and v.version = s.version
 where u.contact_id = any($1::bigint[]) and u.status = 'subscribed'
   and coalesce(u.tracking::text, v.definition ->> 'tracking') = 'full'
 order by u.contact_id, u.stream_id;

-- name: answers_before
-- What had earned its points up to $3: (job, kind).
select a.stream_id, a.contact_id, w.job_id, w.kind::text
  from unnest($1::int[], $2::bigint[], $3::timestamptz[]) as a (stream_id, contact_id, since)
 cross join lateral (
   select job_id, kind
     from answer
    where contact_id = a.contact_id and stream_id = a.stream_id and at <= a.since
   offset 0) w;

-- name: drop_answers
-- Of (stream $1, contact $2) since $3: what is written anew, or was none.
delete from answer w
 using unnest($1::int[], $2::bigint[], $3::timestamptz[]) as a (stream_id, contact_id, since)
 where w.contact_id = a.contact_id and w.stream_id = a.stream_id and w.at > a.since;

-- name: transitions_of
-- The log since $3, its rows and what took some of them back.
select t.stream_id, t.contact_id, t.id, t.from_state::text, t.to_state::text, t.why, t.fact, t.at, t.takes_back
  from unnest($1::int[], $2::bigint[], $3::timestamptz[]) as a (stream_id, contact_id, since)
 cross join lateral (
   select * from transition where contact_id = a.contact_id and stream_id = a.stream_id and at > a.since offset 0) t
 order by t.id;
