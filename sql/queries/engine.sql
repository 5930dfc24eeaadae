-- The engine: what happened to people, and what that ends. engine/store.py.
-- Locks in one order everywhere: gate, program, epoch, engagement, entry, job. Who
-- ends somebody's way holds that person's gate row first. Arrays may be 100,000 long: each
-- line is looked up by an index (LATERAL … OFFSET 0 keeps it so), for a planner that takes
-- them for ten lines joins them by nested loops (20,000 suppressions: over 60 s; so: 2 s).

-- ── What is sent, by which rules ────────────────────────────────────────────

-- name: program_versions
-- Programs $1 at versions $2, with the messages of their nodes.
select v.program_id, v.version, p.name, p.kind::text, p.stream_id, v.definition,
       (select coalesce(jsonb_object_agg(m.node, m.id), '{}')
          from message m
         where m.program_id = v.program_id and m.version = v.version and m.variant = '')
  from unnest($1::int[], $2::int[]) as a (program_id, version)
  join program_version v using (program_id, version)
  join program p on p.id = v.program_id;

-- name: stream_versions
-- Streams $1 at versions $2.
select v.stream_id, v.version, s.name, v.definition
  from unnest($1::int[], $2::int[]) as a (stream_id, version)
  join stream_version v using (stream_id, version)
  join stream s on s.id = v.stream_id;

-- name: held_domains
-- The epoch, and what holds at it, in one snapshot: domains that get nothing; domains, and
-- programs, that are suspended, and until when (a far year: what is endless has no date);
-- whether some stream caps the mail of all.
with held as materialized (
  select x.kind, x.key, p.id as program_id, least(max(x.until), '9999-01-01') as until
    from suspension x
    left join program p on p.name = x.key and x.kind = 'campaign'
   where x.lifted is null and x.until > now() and x.kind in ('domain', 'campaign')
   group by x.kind, x.key, p.id
)
select e.version,
       array(select substr(key, 2) from suppression where key like '@%' and released is null and until > now()),
       array(select key from held where kind = 'domain' order by key),
       array(select until from held where kind = 'domain' order by key),
       array(select program_id from held where program_id is not null order by program_id),
       array(select until from held where program_id is not null order by program_id),
       exists (
         select
           from stream t
           join stream_version v on v.stream_id = t.id and v.version = t.version
          where v.definition #> '{policy,slots,caps_all}' <> '[]')
  from epoch e;

-- name: current_streams
-- The rules of streams $1 as they are now.
select s.id, v.definition
  from stream s
  join stream_version v on v.stream_id = s.id and v.version = s.version
 where s.id = any($1::int[]);

-- name: versions_of
-- Every version of streams $1, from when on it holds, the oldest first.
select stream_id, made, definition from stream_version where stream_id = any($1::int[]) order by stream_id, version;

-- name: streams_of
-- On which streams something is known of contacts $1.
select stream_id, contact_id from engagement where contact_id = any($1::bigint[]);

-- ── The fold ────────────────────────────────────────────────────────────────

-- name: take_hits
-- Lock up to 1,000 hits of people whose mail is not queued any more, in the order of their
-- receipt: Taken (engine/store.py). Ledger and queue are read in one snapshot, so a mail that is
-- settled meanwhile is in one of them. Contact 0: the mail never arrived, or its contact may not be
-- measured, or was erased.
-- Plan: pending_judged_idx without a sort (behind 100,000 others: 12 ms instead of 170),
-- and the queue only for mail without a ledger row, for the reason given at ripe_jobs.
with taken as materialized (
  select p.event_id, p.job_id, p.kind, p.link_id, p.at, l.stream_id, l.contact_id, l.entry_id, l.arrived
    from pending p
    left join lateral (
      select true as ended, stream_id, contact_id, entry_id, outcome in ('delivered', 'in_doubt') as arrived
        from ledger where job_id = p.job_id offset 0) l on true
    left join lateral (select true as queued from job where id = p.job_id and l.ended is null offset 0) j on true
   where p.class in ('human', 'proxy')
     and p.kind in ('open', 'click')
     and j.queued is null
   order by p.event_id
   limit 1000
     for update of p skip locked
)
select t.event_id, t.job_id, t.kind::text, t.link_id, t.at, coalesce(t.stream_id, 0),
       case when t.arrived and coalesce(u.tracking::text, v.definition ->> 'tracking') = 'full'
            then coalesce(t.contact_id, 0) else 0 end,
       t.entry_id
  from taken t
  left join stream s on s.id = t.stream_id
  left join stream_version v on v.stream_id = s.id and v.version = s.version
  left join lateral (
    select tracking from subscription where stream_id = t.stream_id and contact_id = t.contact_id offset 0) u on true
 order by t.event_id;

-- name: fold_plain
-- What a sign does to somebody who is mailed, and to whom nothing else happens: points, and an open
-- window is answered; mail that came into it after the sign opens the next. The signs of all others
-- are for the machine; that it would say the same of these is shown by tests/engine/test_plain.py. Locks, in the order of their keys, the rows of all and then
-- the gates of those others (who holds a gate sees nothing of points, so all other gates are left alone); and
-- waits for none, so that rows may come before gates, and because all but the rows is judged as it was before the
-- locks, and settle writes mail into an open window to the ledger only. Whose row is locked, or is not the one
-- that was there then, is the machine's; whoever changes answers, or what came, writes the row.
-- Returns the numbers, from 1 on, of the signs that are left, and those contacts whose gates and rows are locked.
-- By sign: $1 event, $2 job, $3 kind, $4 link, $5 time, $6 stream, $7 contact, $8 entry, $9 points
-- if it is the first. By stream $10: $11 the threshold, $12 the closed attempts from which on days
-- count, $13 seconds of the fewest days, $14 seconds of a window. $15: heard up to.
-- Plan: look-ups by key for each sign, and its row once more by its place, which shows nothing that was written
-- later; of ledger_contact_idx what is younger than the sign, where a window is open. One scan of that index for
-- all contacts takes 2 µs a sign more, and one of answers for all jobs as much as the look-ups.
with sign as (
  select s.*,
         row_number() over (partition by s.stream_id, s.contact_id, s.job_id, s.kind order by s.at, s.event_id) = 1
         and w.at is null as first
    from unnest($1::uuid[], $2::bigint[], $3::text[]::sign_kind[], $4::int[], $5::timestamptz[], $6::int[],
                $7::bigint[], $8::bigint[], $9::smallint[]) with ordinality
      as s (event_id, job_id, kind, link_id, at, stream_id, contact_id, entry_id, points, n)
    left join lateral (select at from answer where job_id = s.job_id and kind = s.kind offset 0) w on true
), person as (
  select s.*, min(at) over one as since, max(at) over one as until,
         coalesce(sum(points) filter (where first) over one, 0) as earned,
         bool_or(first and entry_id is not null and exists (
           select
             from entry n
             join program_version v on v.program_id = n.program_id and v.version = n.version
            where n.id = s.entry_id and n.ended is null and v.definition -> 'leave_on' ? s.kind::text)) over one as leaves
    from sign s
  window one as (partition by stream_id, contact_id)
   order by stream_id, contact_id
), judged as materialized (
  select p.*, e.place, m.first + r.span as next_window, m.latest,
         not p.leaves
         and r.threshold is not null
         and e.state in ('active', 'engaged', 'reactivated')
         and e.first_sent is not null
         and e.held is null
         and e.told < p.since
         and e.round_from <= p.since
         and (e.state = 'engaged' or e.score + p.earned < r.threshold)
         and coalesce(e.wake_at > $15, true)
         and (e.ignored + e.unclear < r.attempts
              or coalesce(e.last_sign, e.first_sent) + r.days * interval '1 s' > greatest(p.until, $15))
         and (e.window_until is null
              or e.window_until > greatest(p.until, m.latest, $15)
                 and (m.first is null
                      or m.can_answer and m.first > p.until and m.first + r.span > greatest(m.latest, $15)))
         and (select true from engagement where ctid = e.place) as plain
    from person p
    left join lateral (
      select ctid as place, *
        from engagement
       where stream_id = p.stream_id and contact_id = p.contact_id
         for no key update skip locked) e on true
    left join lateral (
      select min(l.ended) as first, max(l.ended) as latest,
             bool_and(l.outcome = 'delivered' and l.bounced_late is null and g.class > 0 and t.pixel) as can_answer
        from ledger l
       cross join lateral (select pixel from message where id = l.message_id offset 0) t
       cross join lateral (select class from program where id = l.program_id offset 0) g
       where e.window_until is not null
         and l.contact_id = p.contact_id and l.ended > p.since and l.stream_id = p.stream_id) m on true
    left join (
      select stream_id, threshold, attempts, days, window_ * interval '1 s' as span
        from unnest($10::int[], $11::int[], $12::int[], $13::float8[], $14::float8[])
          as r (stream_id, threshold, attempts, days, window_)) r on r.stream_id = p.stream_id
), gates as materialized (
  select contact_id
    from gate
   where contact_id = any(array(select contact_id from judged where plain is not true))
   order by contact_id
     for no key update skip locked
), told as (
  update engagement e
     set score = e.score + j.earned, last_sign = greatest(e.last_sign, j.until), told = greatest(j.until, j.latest),
         window_until = j.next_window, veiled = false, ignored = 0, unclear = 0,
         wake_at = least(e.wake_at, j.next_window)
    from (
      select place, earned, until, next_window, latest
        from judged
       where plain and (select count(*) from gates) >= 0 -- all are locked; of one person all say the same
      offset 0) j
   where e.ctid = j.place
), answers as (
  insert into answer (job_id, kind, contact_id, stream_id, link_id, at, event_id, points)
  select job_id, kind, contact_id, stream_id, link_id, at, event_id, points
    from judged
   where plain and first
   order by job_id, kind
)
select array(select n from judged where plain is not true order by n),
       array(select contact_id
               from gates
              where contact_id not in (
                select contact_id
                  from judged j
                 where plain is not true
                   and place is distinct from (
                     select ctid from engagement where stream_id = j.stream_id and contact_id = j.contact_id)));

-- name: nodes_of
-- Of jobs $1: the node, and whether it is one of a reactivation.
-- Plan: single-row look-ups by primary key.
select a.job_id, m.node, p.kind = 'reactivation'
  from unnest($1::bigint[]) as a (job_id)
 cross join lateral (select message_id, program_id from ledger where job_id = a.job_id offset 0) l
  join lateral (select node from message where id = l.message_id offset 0) m on true
  join lateral (select kind from program where id = l.program_id offset 0) p on true;

-- name: positions
select id, position from message_link where id = any($1::int[]);

-- name: drop_hits
delete from pending where event_id = any($1::uuid[]);

-- name: answered
-- Which (job, kind) of jobs $1 earned their points before.
-- Plan: a look-up by primary key for each, whatever was in the table when it was planned.
select w.job_id, w.kind::text
  from unnest($1::bigint[]) as a (job_id)
 cross join lateral (select job_id, kind from answer where job_id = a.job_id offset 0) w;

-- name: add_answers
-- First answers: $1 job, $2 kind, $3 contact, $4 stream, $5 link, $6 time, $7 event, $8 points.
insert into answer (job_id, kind, contact_id, stream_id, link_id, at, event_id, points)
select *
  from unnest($1::bigint[], $2::text[]::sign_kind[], $3::bigint[], $4::int[], $5::int[], $6::timestamptz[],
              $7::uuid[], $8::smallint[])
 order by 1, 2
on conflict do nothing;

-- ── The rows contact × stream ───────────────────────────────────────────────

-- name: lock_gates
-- Returns those that exist.
select contact_id from gate where contact_id = any($1::bigint[]) order by contact_id for no key update;

-- name: erased
select erased from contact where id = $1;

-- name: erased_of
select id from contact where id = any($1::bigint[]) and erased;

-- name: raise_gates
-- Their rows are locked already.
update gate set version = version + 1 where contact_id = any($1::bigint[]);

-- name: add_engagements
-- A row for each (stream $1, contact $2) that has none: New, since $3.
insert into engagement (stream_id, contact_id, since, round_from)
select a.stream_id, a.contact_id, a.since, a.since
  from unnest($1::int[], $2::bigint[], $3::timestamptz[]) as a (stream_id, contact_id, since)
 order by a.stream_id, a.contact_id
on conflict do nothing;

-- name: lock_engagements
-- Kept (engine/rows.py), in order.
select e.stream_id, e.contact_id,
       case when e.state = 'active' and e.first_sent is null then 'new' else e.state::text end,
       e.since, e.score, e.round_from, e.last_sign, e.first_sent, e.cycle, e.cool_until,
       e.window_until, e.veiled, e.ignored, e.unclear, greatest(e.told, '0001-01-01 UTC'), e.held, e.wake_at
  from engagement e
 where (e.stream_id, e.contact_id) in (select * from unnest($1::int[], $2::bigint[]))
 order by e.stream_id, e.contact_id
   for no key update;

-- name: take_due
-- The same of up to 1,000 rows of stream $1 that are due at $2, behind ($3, $4) in the
-- order of their time, whose contacts nobody else holds.
-- Plan: engagement_wake_idx; no other row is read (tests/engine/test_sweep.py).
select e.stream_id, e.contact_id,
       case when e.state = 'active' and e.first_sent is null then 'new' else e.state::text end,
       e.since, e.score, e.round_from, e.last_sign, e.first_sent, e.cycle, e.cool_until,
       e.window_until, e.veiled, e.ignored, e.unclear, greatest(e.told, '0001-01-01 UTC'), e.held, e.wake_at
  from engagement e
 where e.stream_id = $1 and e.wake_at <= $2 and e.wake_at >= $3 and (e.wake_at, e.contact_id) > ($3, $4)
 order by e.wake_at, e.contact_id
 limit 1000
   for no key update skip locked;

-- name: bases
-- Where replays of (stream $1, contact $2) begin, as `lock_engagements`.
select e.stream_id, e.contact_id,
       case when e.state = 'active' and e.first_sent is null then 'new' else e.state::text end,
       e.since, e.score, e.round_from, e.last_sign, e.first_sent, e.cycle, e.cool_until,
       e.window_until, e.veiled, e.ignored, e.unclear, greatest(e.told, '0001-01-01 UTC'), e.held, e.wake_at
  from engagement_base e
 where (e.stream_id, e.contact_id) in (select * from unnest($1::int[], $2::bigint[]));

-- name: drop_bases
-- A statement of its own: an insert in the same one would find the row that is to go.
delete from engagement_base where (stream_id, contact_id) in (select * from unnest($1::int[], $2::bigint[]));

-- name: set_bases
-- From here on replays of (stream $1, contact $2) begin with the row as it is. It is locked.
insert into engagement_base
select * from engagement where (stream_id, contact_id) in (select * from unnest($1::int[], $2::bigint[]));

-- name: write_bases
-- Bases of rows (stream $1, contact $2), which have none.
insert into engagement_base (
  stream_id, contact_id, state, since, score, round_from, last_sign, first_sent, cycle, cool_until,
  window_until, veiled, ignored, unclear, told)
select a.stream_id, a.contact_id, a.state::contact_state, a.since, a.score, a.round_from, a.last_sign, a.first_sent,
       a.cycle, a.cool_until, a.window_until, a.veiled, a.ignored, a.unclear, a.told
  from unnest($1::int[], $2::bigint[], $3::text[], $4::timestamptz[], $5::int[], $6::timestamptz[],
              $7::timestamptz[], $8::timestamptz[], $9::smallint[], $10::timestamptz[], $11::timestamptz[],
              $12::boolean[], $13::smallint[], $14::smallint[], $15::timestamptz[])
    as a (stream_id, contact_id, state, since, score, round_from, last_sign, first_sent, cycle, cool_until,
          window_until, veiled, ignored, unclear, told);

-- name: write_engagements
-- Rows (stream $1, contact $2) that are locked already; $18: whether the state changed.
update engagement
   set state = a.state::contact_state, since = a.since, score = a.score, round_from = a.round_from,
       last_sign = a.last_sign, first_sent = a.first_sent, cycle = a.cycle, cool_until = a.cool_until,
       window_until = a.window_until, veiled = a.veiled, ignored = a.ignored, unclear = a.unclear,
       told = a.told, held = a.held, wake_at = a.wake_at, version = engagement.version + a.moved::int
  from unnest($1::int[], $2::bigint[], $3::text[], $4::timestamptz[], $5::int[], $6::timestamptz[],
              $7::timestamptz[], $8::timestamptz[], $9::smallint[], $10::timestamptz[], $11::timestamptz[],
              $12::boolean[], $13::smallint[], $14::smallint[], $15::timestamptz[], $16::timestamptz[],
              $17::timestamptz[], $18::boolean[])
    as a (stream_id, contact_id, state, since, score, round_from, last_sign, first_sent, cycle, cool_until,
          window_until, veiled, ignored, unclear, told, held, wake_at, moved)
 where engagement.stream_id = a.stream_id and engagement.contact_id = a.contact_id;

-- name: add_transitions
-- $8: the row that each takes back, null: none.
insert into transition (stream_id, contact_id, from_state, to_state, why, fact, at, takes_back)
select a.stream_id, a.contact_id, a.from_state::contact_state, a.to_state::contact_state, a.why, a.fact, a.at, a.back
  from unnest($1::int[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::bigint[])
    with ordinality as a (stream_id, contact_id, from_state, to_state, why, fact, at, back, n)
 order by a.n;

-- name: enter
-- Contacts $2 enter a program of stream $1 at $3; $4: a series, $5: the fact. The cells
-- `enters …` of the state table, set-based; entries of this program are not made yet.
-- Rows that would stay as they are are not locked. Where a sweep is behind, or what is
-- younger is told already, the sweep replays the row. Not later than now(), which is when
-- the entry says that it began.
with rows as materialized (
  select e.contact_id, e.state, e.score, e.first_sent, least($3, now()) as at
    from engagement e
   where e.stream_id = $1
     and e.contact_id = any($2::bigint[])
     and (e.state = 'reactivated'
          or (e.state = 'engaged' and $4)
          or (e.state = 'active' and ($4 or e.first_sent is null)
              and (e.score <> 0 or e.round_from <> least($3, now()))))
   order by e.contact_id
     for no key update
), decided as materialized (
  select r.contact_id, r.state, r.at,
         case when r.state = 'reactivated' then false
              when r.state = 'engaged' or r.first_sent is null then true
              else not exists (
                select from entry n
                 where n.contact_id = r.contact_id and n.stream_id = $1 and n.ended is null)
         end as new_round
    from rows r
), moved as (
  update engagement e
     set state = 'active',
         since = case when d.state = 'active' then e.since else d.at end,
         score = case when d.new_round then 0 else e.score end,
         round_from = case when d.new_round then d.at else e.round_from end,
         told = greatest(e.told, d.at),
         held = case when e.told > d.at or e.wake_at <= d.at then least(e.held, d.at) else e.held end,
         wake_at = case when e.told > d.at then least(e.wake_at, d.at) else e.wake_at end,
         version = e.version + (d.state <> 'active')::int
    from decided d
   where e.stream_id = $1 and e.contact_id = d.contact_id
     and (d.new_round or d.state <> 'active')
)
insert into transition (stream_id, contact_id, from_state, to_state, why, fact, at)
select $1, contact_id, state, 'active', 'entered', $5, at
  from decided
 where state <> 'active'
 order by contact_id;

-- name: enter_reactivation
-- Contacts $2 whose cool-down on stream $1 is over at $3 try again, because of $4. Returns them.
with rows as materialized (
  select contact_id, least($3, now()) as at
    from engagement
   where stream_id = $1 and contact_id = any($2::bigint[]) and state = 'cooling' and cool_until <= least($3, now())
   order by contact_id
     for no key update
), moved as (
  update engagement e
     set state = 'trying', since = r.at, told = greatest(e.told, r.at), version = e.version + 1
    from rows r
   where e.stream_id = $1 and e.contact_id = r.contact_id
), logged as (
  insert into transition (stream_id, contact_id, from_state, to_state, why, fact, at)
  select $1, contact_id, 'cooling', 'trying', 'reactivation', $4, at from rows order by contact_id
)
select contact_id from rows;

-- ── Sweeps, and what holds them ─────────────────────────────────────────────

-- name: swept_streams
-- Streams with something due at $1, or to be replayed, whose sweeps are not held.
-- Plan: of each stream the first entry of engagement_wake_idx. Asked whether any is due at $1, of which
-- a generic plan knows nothing, it read all rows of all streams.
select s.id
  from stream s
 where not exists (select from brake b where b.stream_id = s.id and b.stopped is not null)
   and ((select wake_at from engagement where stream_id = s.id and wake_at is not null order by wake_at limit 1) <= $1
        or exists (select from recall where stream_id = s.id))
 order by s.id;

-- name: brake_of
-- Of stream $1, locked: up to when an operator has looked, when who might be mailed was
-- counted and how many they were, and how many were paused by silence within $2 seconds,
-- since then.
with known as (
  insert into brake (stream_id) values ($1) on conflict do nothing
), held as (
  select released, counted, reachable from brake where stream_id = $1 for no key update
)
select coalesce((select greatest(released, '0001-01-01 UTC') from held), '0001-01-01 UTC'),
       coalesce((select counted > now() - $2::float8 * interval '1 s' from held), false),
       coalesce((select reachable from held), 0),
       (select count(*) filter (where takes_back is null) - count(*) filter (where takes_back is not null)
          from transition
         where stream_id = $1 and why in ('attempts', 'days') and made > now() - $2::float8 * interval '1 s'
           and at > coalesce((select released from held), '-infinity'));

-- name: reachable
-- How many might be mailed on stream $1, for the state they are in. Reads all of them.
select count(*) from engagement where stream_id = $1 and state in ('active', 'engaged', 'reactivated');

-- name: count_reachable
update brake set reachable = $2, counted = now() where stream_id = $1;

-- name: stop_sweeps
-- Of stream $1, which would have paused $2, where $3 may be.
update brake set stopped = now(), silent = $2, allowed = $3 where stream_id = $1;

-- name: brakes
-- Braked (engine/sweep.py).
select s.name, b.stopped, b.silent, b.allowed, b.reachable
  from brake b
  join stream s on s.id = b.stream_id
 where b.stopped is not null
 order by s.name;

-- name: release_brake
-- The silence of stream $1 up to now is believed, says $2. No row: nothing was held.
update brake b
   set stopped = null, released = now(), released_by = $2
  from stream s
 where s.name = $1 and b.stream_id = s.id and b.stopped is not null
returning b.silent;

-- ── What ends ───────────────────────────────────────────────────────────────

-- name: leave
-- End running entries: of contacts $1, on streams $2 (null: all), one entry $3 (null:
-- all), if their leave_on has $4 ('': whatever it says; 'reactivation': if they are one),
-- because of $5; the first line that fits an entry gives the reason. Not entries $6. Returns contact and stream of each.
with asked as materialized (
  select *
    from unnest($1::bigint[], $2::int[], $3::bigint[], $4::text[], $5::text[])
      with ordinality as a (contact_id, stream_id, entry_id, sign, why, n)
), meant as materialized (
  select distinct on (e.id) e.id, a.why
    from asked a
   cross join lateral (
     select n.id
       from entry n
       join program_version v on v.program_id = n.program_id and v.version = n.version
      where n.contact_id = a.contact_id
        and n.ended is null
        and n.id <> all($6::bigint[])
        and (a.stream_id is null or n.stream_id = a.stream_id)
        and (a.entry_id is null or n.id = a.entry_id)
        and (a.sign = '' or v.definition -> 'leave_on' ? a.sign
             or a.sign = 'reactivation' and v.definition ->> 'kind' = 'reactivation')
     offset 0
   ) e
   order by e.id, a.n
), entries as materialized (
  select e.id, m.why
    from meant m
    join entry e on e.id = m.id and e.ended is null
   order by e.id
     for no key update of e
)
update entry
   set ended = now(), due = null, why = entries.why
  from entries
 where entry.id = entries.id
returning entry.contact_id, entry.stream_id;

-- name: wake_jobs
-- Waiting jobs of contacts $1 on streams $2 (null: all), of classes $3 or above, are due
-- now, so that the gate records their end at once.
with meant as materialized (
  select distinct q.id
    from unnest($1::bigint[], $2::int[], $3::int[]) as a (contact_id, stream_id, class)
   cross join lateral (
     select j.id
       from job j
      where j.contact_id = a.contact_id
        and j.worker is null and not j.parked and j.due > now() and j.class >= a.class
        and (a.stream_id is null or j.stream_id = a.stream_id)
     offset 0
   ) q
), jobs as materialized (
  select j.id
    from meant m
    join job j on j.id = m.id and j.worker is null and not j.parked
   order by j.id
     for no key update of j
)
update job set due = now() from jobs where job.id = jobs.id;

-- name: ended_ways
-- Entries $1, whose way is over. heard: something was delivered, the contact may be
-- measured, and no hit on mail of the stream waits to be judged or folded, so that silence
-- would mean something. A reactivation ends in silence in any case, or whoever cannot be
-- heard would be won back for ever.
select n.id, n.stream_id, n.contact_id, n.entered, p.name, p.kind::text, v.definition ->> 'when_silent', now(),
       (p.kind = 'reactivation'
        or coalesce(u.tracking::text, w.definition ->> 'tracking') = 'full'
           and exists (
             select from ledger l
              where l.contact_id = n.contact_id and l.entry_id = n.id and l.outcome = 'delivered'
                and l.bounced_late is null))
         and not exists (
           select from ledger l join pending h on h.job_id = l.job_id
            where l.contact_id = n.contact_id and l.stream_id = n.stream_id)
  from entry n
  join program p on p.id = n.program_id
  join program_version v on v.program_id = n.program_id and v.version = n.version
  join stream s on s.id = n.stream_id
  join stream_version w on w.stream_id = s.id and w.version = s.version
  left join subscription u on u.stream_id = n.stream_id and u.contact_id = n.contact_id
 where n.id = any($1::bigint[]) and n.ended is null
 order by n.id;

-- name: waits_over
-- Of entries $1: when their wait is over, when the last mail before it arrived, stream and contact.
select n.id, n.due, l.mailed, n.stream_id, n.contact_id
  from entry n
  join lateral (
    select max(ended) as mailed from ledger
     where contact_id = n.contact_id and entry_id = n.id and outcome = 'delivered' and bounced_late is null) l on l.mailed is not null
 where n.id = any($1::bigint[]) and n.ended is null and n.due is not null;

-- name: stranded_ways
-- Up to 1,000 reactivations that are over while their contact is still trying.
-- Plan: engagement_trying_idx, which holds only those who try.
select n.id, e.stream_id, e.contact_id, n.entered, n.ended, n.name
  from engagement e
 cross join lateral (
   select n.id, n.entered, n.ended, p.name
     from entry n
     join program p on p.id = n.program_id and p.kind = 'reactivation'
    where n.contact_id = e.contact_id and n.stream_id = e.stream_id
    order by n.entered desc
    limit 1
 ) n
 where e.state = 'trying' and n.ended is not null
 order by e.stream_id, e.contact_id
 limit 1000;

-- name: unsubscribe
-- Contact $1 leaves stream $2 at $3 by way of $4. There may be no row: the refusal is
-- kept, so that no later import subscribes this person.
insert into subscription (stream_id, contact_id, status, basis, source, changed, changed_by)
values ($2, $1, 'unsubscribed', 'consent', $4, $3, $4)
on conflict (stream_id, contact_id) do update
  set status = 'unsubscribed', changed = excluded.changed, changed_by = excluded.changed_by
where subscription.status <> 'unsubscribed';

-- name: add_event
-- A fact without a mail: $1 id, $2 kind, $3 time, $4 contact, $5 stream, $6 data.
-- No row: it was there already.
insert into event (id, kind, at, contact_id, stream_id, data)
values ($1, $2, $3, $4, $5, $6)
on conflict do nothing
returning id;

-- name: add_complaints
-- Events $1 of contacts $2 at $3.
insert into event (id, kind, at, contact_id)
select a.id, 'complaint', $3, a.contact_id from unnest($1::uuid[], $2::bigint[]) as a (id, contact_id) order by a.id;

-- name: now
select now();

-- name: stream_of_program
select stream_id from program where id = $1;

-- name: contacts_of_keys
select id, address_key from contact where address_key = any($1::text[]) order by id;

-- name: suppress
-- Keys $1 with scopes $2, reasons $3, sources $4, until $5 (null: for ever). Where one is open, the union
-- wins: the later end; what had lapsed takes the new reason. Counts what was not in force.
with given as materialized (
  select distinct on (a.key, a.scope)
         a.key, a.scope::suppression_scope as scope, a.reason, a.source, coalesce(a.until, 'infinity') as until
    from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
      as a (key, scope, reason, source, until)
   order by a.key, a.scope, coalesce(a.until, 'infinity') desc
), open as materialized (
  select s.id
    from given g
    join suppression s on s.key = g.key and s.scope = g.scope and s.released is null
   order by s.key, s.scope
     for no key update of s
), written as (
  insert into suppression (key, scope, reason, source, until)
  select key, scope, reason, source, until from given
   where (select count(*) from open) >= 0
   order by key, scope
  on conflict (key, scope) where released is null do update
    set until = greatest(suppression.until, excluded.until),
        reason = case when suppression.until > now() then suppression.reason else excluded.reason end,
        source = case when suppression.until > now() then suppression.source else excluded.source end
)
select count(*)
  from given g
 where not exists (
   select from suppression s
    where s.key = g.key and s.scope = g.scope and s.released is null and s.until > now());

-- name: release
-- Close what is open for keys $1. Erasure is not undone. Returns the keys.
with open as materialized (
  select id from suppression
   where key = any($1::text[]) and released is null and reason <> 'erased'
   order by key, scope
     for no key update
)
update suppression set released = now() from open where suppression.id = open.id
returning suppression.key;

-- name: raise_epoch
-- For what concerns everybody. FOR UPDATE, because begin holds the row FOR KEY SHARE,
-- which a plain update would not wait for.
with locked as materialized (select one from epoch for update)
update epoch set version = version + 1 from locked where epoch.one = locked.one;

-- name: lock_program
-- Against begin too: what commits under this lock has the last word.
select status::text from program where id = $1 for update;

-- name: set_program_status
update program set status = $2::text::program_status, why = $3, fence = fence + 1 where id = $1;

-- name: end_program
-- Every running entry of program $1 ends because of $2.
with entries as materialized (
  select id from entry where program_id = $1 and ended is null order by id for no key update
)
update entry set ended = now(), due = null, why = $2 from entries where entry.id = entries.id;
