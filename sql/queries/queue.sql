-- The queue: what is due, who holds it, what became of it. mtad/queue/store.py.
-- Locks in one order everywhere: lane, gate, program, epoch, engagement, entry, job, tally.

-- name: claim
-- Lease due jobs of each of up to $4 sites to worker $1, up to 64 of each or, where few sites
-- have any, 512 of all: a lone site's sessions would else wait for the next claim every 30 ms.
-- Sites that waited longest come first, and never one that another worker is claiming from. And up
-- to 64 transactional ones of whatever site, which neither stand in line behind sites nor need
-- room. None of sites $2, which are shut; of sites $3, which are full, and with $4 = 0 of
-- all, transactional mail only. Moves each site's hint on. Returns Facts (engine/facts.py),
-- all seen in one snapshot, so that the versions begin compares belong to them.
-- What is claimed stays in job_due_idx until it is settled, so that no index is written. The
-- site's `passed` is the last job of the last prio that was claimed from: the next claim goes
-- on behind it. What comes to stand before it is found by refresh_hints, within a
-- second, or five where that takes long.
-- now(), not clock_timestamp(): only what is stable can be an index condition.
-- A scan of an index reads all of a page that matches, whatever its limit: up to 250 entries of
-- jobs that are due later. So each look-up has two bounds: jobs of the prio that was claimed from last
-- (at first: of bulk) are asked for if due, those that are due later within the next hour; what
-- is due after that is seen by refresh_hints. Which other prios a site has is found by leaping
-- from one to the next: most have none, and asking for each of six, twice, was half of the work.
-- Of transactional jobs whose lanes are closed only the first 256 are looked at; those
-- behind them are found by their sites.
-- The commit does not wait for its flush: a claim that a crash of the server takes back is one
-- of jobs that wait, for which begin says no; and begin's flush is one of the claim, too.
-- Plan: job_urgent_idx, site_ready_idx, job_due_idx without a sort; `limit 1` keeps the
-- look-ups single rows, where a join would read whole tables (tests/db/test_plans.py).
with recursive urgent as materialized (
  select j.id, j.site_id
    from (select id, site_id
            from job
           where worker is null and not parked and prio < 2 and site_id is not null and due <= now()
           order by due
           limit 256) h
   cross join lateral (select ready_at from site where id = h.site_id limit 1) s
   cross join lateral (
     select id, site_id from job where id = h.id and worker is null and not parked limit 1 for no key update skip locked) j
   where s.ready_at <= now() and h.site_id <> all($2::int[])
   limit 64
), sites as materialized (
  select id, passed_prio, passed_due, passed_id
    from site
   where ready_at <= now() and id <> all($2::int[]) and id <> all($3::int[])
   order by ready_at
   limit $4
     for no key update skip locked
), share (most) as (
  select greatest(64, 512 / greatest(count(*), 1)) from sites
), heads as (
  select id as site_id, passed_prio as prio, '-infinity'::timestamptz as due, passed_prio as below
    from sites
   union all
  select s.id, n.prio, n.due, b.below
    from sites s
   cross join lateral (values (-1::smallint, s.passed_prio), (s.passed_prio, 99::smallint)) b (above, below)
   cross join lateral (
     select prio, due
       from job
      where site_id = s.id and not parked and prio > b.above and prio < b.below
      order by prio, due
      limit 1
   ) n
   union all
  select h.site_id, n.prio, n.due, h.below
    from heads h
   cross join lateral (
     select prio, due
       from job
      where site_id = h.site_id and not parked and prio > h.prio and prio < h.below
      order by prio, due
      limit 1
   ) n
   where h.prio < h.below - 1
), ready as materialized (
  select s.id, s.passed_prio, s.passed_due, s.passed_id,
         array_agg(h.prio order by h.prio) filter (where h.due <= now()) as prios,
         min(h.due) filter (where h.due > now()) as later
    from sites s
    left join heads h on h.site_id = s.id
   group by s.id, s.passed_prio, s.passed_due, s.passed_id
), picked as materialized (
  select j.id, j.prio, j.due, r.id as site_id
    from ready r
   cross join lateral (
     select p.prio, q.due, q.id
       from unnest(r.prios) p (prio)
      cross join lateral (
        select due, id
          from job
         where site_id = r.id and prio = p.prio and worker is null and not parked and due <= now()
           and (due, id) > (case when p.prio = r.passed_prio then r.passed_due else '-infinity' end,
                            case when p.prio = r.passed_prio then r.passed_id else 0 end)
         order by due, id
         limit (select most from share)
           for no key update skip locked
      ) q
      limit (select most from share)
   ) j
), claimed as (
  update job set worker = $1 where id = any(array(select id from urgent union select id from picked)) returning *
), leased as (
  insert into lease (worker, jobs)
  select $1, array_agg(id) from (select id, (row_number() over () - 1) / 128 as part from claimed) c group by part
), hinted as (
  update site
     set ready_at = next.at,
         passed_prio = coalesce(last.prio, site.passed_prio),
         passed_due = coalesce(last.due, site.passed_due),
         passed_id = coalesce(last.id, site.passed_id)
    from (
      select r.id,
             case when count(p.id) >= (select most from share) then now()
                  else coalesce(least(r.later, (
                    select min(d.due)
                      from unnest(r.prios) v (prio)
                     cross join lateral (
                       select due
                         from job
                        where site_id = r.id and prio = v.prio and not parked
                          and due > now() and due <= now() + interval '1 h'
                        order by due
                        limit 1
                     ) d)), 'infinity')
             end as at
        from ready r
        left join picked p on p.site_id = r.id
       group by r.id, r.prios, r.later
    ) next
    left join (
      select distinct on (site_id) site_id, prio, due, id from picked order by site_id, prio desc, due desc, id desc
    ) last on last.site_id = next.id
   where site.id = next.id
)
select j.id, j.contact_id, j.stream_id, j.program_id, j.version, j.message_id, j.entry_id, j.site_id,
       j.class, j.attempt, j.doubts, j.created, j.not_after, m.node,
       c.address, c.address_key, d.name, c.locale, c.zone, c.attributes, c.erased,
       u.status::text, u.break_until, u.tracking::text,
       (select reason from suppression x
         where x.key = c.address_key and x.scope = 'all' and x.released is null and x.until > now()),
       (select reason from suppression x
         where x.key = c.address_key and x.scope = 'marketing' and x.released is null and x.until > now()),
       g.state::text, g.since, g.cool_until, coalesce(g.cycle, 0),
       n.ended is not null, n.why,
       f.version, p.fence, p.status::text, t.version, e.version,
       case when j.doubts > 0
            then least((select min(h.at) from pending h where h.job_id = j.id and h.class in ('human', 'proxy')),
                       (select p.confirmed from proof p where p.job_id = j.id)) end,
       f.sent, f.sent_on, j.slot
  from claimed j
  join lateral (select * from contact where id = j.contact_id limit 1) c on true
  join lateral (select * from gate where contact_id = j.contact_id limit 1) f on true
  join lateral (select * from message where id = j.message_id limit 1) m on true
  join lateral (select * from program where id = j.program_id limit 1) p on true
  join lateral (select * from stream where id = j.stream_id limit 1) t on true
  join lateral (select * from domain where id = c.domain_id limit 1) d on true
  left join lateral (
    select * from subscription where stream_id = j.stream_id and contact_id = j.contact_id limit 1) u on true
  left join lateral (
    select * from engagement where stream_id = j.stream_id and contact_id = j.contact_id limit 1) g on true
  left join lateral (select * from entry where id = j.entry_id limit 1) n on true
 cross join epoch e
 cross join (select set_config('synchronous_commit', 'off', true)) flush
 order by j.site_id, j.prio, j.due;

-- name: wake_proven
-- Mails in doubt that a person has read are due now, so that the claim settles them.
with jobs as materialized (
  select j.id
    from job j
   where j.doubts > 0 and j.worker is null and not j.parked and j.due > now()
     and exists (select from pending h where h.job_id = j.id and h.class in ('human', 'proxy'))
   order by j.id
   limit 1000
     for no key update skip locked
)
update job set due = now() from jobs where job.id = jobs.id returning job.id;

-- name: begin
-- The commit after which an attempt may touch the network. Worker $1 offers jobs
-- $2 of contacts $3, whose verdicts were made at gate versions $4, over lanes $5, at epoch $6.
-- $7 is the kind of each, the how-manieth of these: $8 program, $9 its fence; $10: the lane keeps a
-- tenth of its tokens from this one, for mail in a greater hurry; $11: it counts for caps, so
-- the contact's row gets the time of its begin, in place of that of an earlier attempt, and a
-- newer version: every other verdict about the contact is stale. At most one offer a contact
-- may count. Locks lanes, gates, programs, epoch
-- and jobs in that order; each CTE names the one before it, which is what makes
-- Postgres evaluate them so. A row that changed while we waited for its lock is
-- compared again by Postgres itself (EvalPlanQual), so a disqualifier that
-- commits first is always seen: tests/db/test_fence.py.
-- Tokens: GCRA with `tat`; a lane keeps 50 ms of its rate (at least 1) of its burst
-- in reserve, so that the promise holds at the receiver. A `tat` more than one
-- burst ahead of the clock is cut: a clock that was wrong must not close a lane.
-- Returns the jobs that go; those for which there is no token, and the seconds until there is
-- one. Of all others the verdict is stale: ask the gate again.
with kinds as materialized (
  select *
    from unnest($8::int[], $9::int[], $10::boolean[], $11::boolean[]) with ordinality
      as k (program_id, fence, yields, counts, number)
), offered as materialized (
  select * from unnest($2::bigint[], $3::bigint[], $4::int[], $5::int[], $7::int[])
      as o (job_id, contact_id, gate_version, lane_id, kind)
), lanes as materialized (
  select l.id, least(l.rate, l.most_rate)::float8 as rate, least(l.burst, l.most_burst)::float8 as burst, l.tat,
         greatest(l.closed_until, l.suspended_until) as closed_until
    from lane l
   where l.id in (select lane_id from offered)
   order by l.id
     for no key update
), gates as materialized (
  select g.contact_id, g.version
    from gate g
   where g.contact_id = any($3::bigint[])
     and (select count(*) from lanes) >= 0
   order by g.contact_id
     for no key update
), programs as materialized (
  select p.id, p.fence
    from program p
   where p.id in (select program_id from kinds)
     and (select count(*) from gates) >= 0
   order by p.id
     for key share
), epochs as materialized (
  select e.version from epoch e where (select count(*) from programs) >= 0 for key share
), standing as materialized (
  select k.*
    from kinds k
    join programs p on p.id = k.program_id and p.fence = k.fence
   where (select version from epochs) = $6
), valid as materialized (
  -- For itself: joined behind the jobs, of which the planner expects one, it would be a nested loop.
  select o.job_id, o.lane_id, k.yields, k.counts
    from offered o
    join gates g on g.contact_id = o.contact_id and g.version = o.gate_version
    join standing k on k.number = o.kind
), jobs as materialized (
  select j.id, j.prio, j.contact_id, j.stream_id, j.slot, o.lane_id, o.yields, o.counts
    from job j
    join valid o on o.job_id = j.id
   where j.worker = $1
     and (j.begun is null or j.begun < clock_timestamp() - interval '2 s')
     and j.not_after > clock_timestamp()
   order by j.id
     for no key update of j
), tick as materialized (
  select clock_timestamp() as at from (select count(*) from jobs) evaluated_last
), buckets as materialized (
  select l.id, 1 / l.rate as every,
         greatest(1, l.burst - greatest(1, l.rate * 0.05)) as burst,
         least(greatest(l.closed_until, t.at), t.at + interval '1 year') - t.at as closed,  -- 15 has no infinite span
         t.at as at,
         least(greatest(l.tat, t.at), t.at + l.burst / l.rate * interval '1 s') as tat
    from lanes l
   cross join tick t
), ranked as materialized (
  select n.id, n.lane_id, n.contact_id, n.stream_id, n.slot, n.counts,
         -- Seconds until there is a token for this one.
         greatest(
           extract(epoch from b.tat - b.at)
             + (n.rank - b.burst + case when n.yields then least(b.burst * 0.1, b.burst - 1) else 0 end) * b.every,
           extract(epoch from b.closed)
         )::float8 as wait
    from (select *, row_number() over (partition by lane_id order by prio, id) as rank from jobs) n
    join buckets b on b.id = n.lane_id
), going as (
  update job
     set begun = (select at from tick),
         slot = case when id = any(array(select id from ranked where counts)) then (select at from tick) else slot end
   where id = any(array(select id from ranked where wait <= 0))
  returning id
), counted as (
  update gate
     set version = gate.version + 1,
         (sent, sent_on) = (
           select array_agg(at order by at), array_agg(stream_id order by at)
             from (select at, stream_id, row_number() over (partition by stream_id order by at desc) as back
                     from (select *
                             from unnest(gate.sent, gate.sent_on) as s (at, stream_id)
                            where s.at is distinct from c.slot
                            union all
                           select c.at, c.stream_id) s) s
            where back <= 16)
    from (select r.contact_id, r.stream_id, r.slot, t.at from ranked r cross join tick t where r.counts and r.wait <= 0) c
   where gate.contact_id = c.contact_id
), paid as (
  update lane set tat = b.tat + k.n * b.every * interval '1 s'
    from buckets b
    join (select lane_id, count(*) as n from ranked where wait <= 0 group by lane_id) k on k.lane_id = b.id
   where lane.id = b.id
)
select array(select id from going), coalesce(array_agg(id), '{}'), coalesce(array_agg(wait), '{}')
  from ranked
 where wait > 0;

-- name: settle_ended
-- Jobs that are over: out of the queue, into the ledger, the entry on, counted. Who was
-- sent nothing after all has the slot back that counted for caps, and a newer version, so
-- that no older verdict puts other mail off for it. What came to somebody
-- (engine/README.md: mail delivered) is written on the row only where it changes it: the
-- first mail on the stream begins a round, one that comes while no window is open opens one;
-- `wake_at` where there was none, or a later one. Mail into an open window is found in the
-- ledger when that closes. Where something younger is on the row, the sweep replays it.
-- $1 worker, $2 its slot, $3 whether the commit may leave its flush to the next one on this
-- connection; then by job: $4 id, $5 contact, $6 entry, $7 reply, $8 dot, $9 end (null: now), both
-- in seconds since 1970, and $10 its ending, the how-manieth of those that follow, for most of a batch
-- ended alike: $11 stream, $12 outcome, $13 reason, $14 scope, $15 attempts, $16 state at the
-- send, $17 next node of the entry, $18 seconds to it, $19 why the entry ends, $20 the source that
-- it left by, and $21 the contact's own tracking mode (null: the stream's).
-- Only jobs that are still this worker's; a 250 that comes after the
-- worker was declared dead still makes a job in doubt delivered. Returns the jobs, and
-- the sites at which mail is due that waited for a slot that was given back.
-- The ledger holds no row of a job that is in the queue, so the insert looks for none: a
-- speculative one takes 3 µs a mail longer.
with endings as materialized (
  select e.*
    from (select case when $3::boolean then set_config('synchronous_commit', 'off', true) end) as flush
   cross join unnest($11::int[], $12::text[]::outcome[], $13::text[], $14::text[]::fault_scope[], $15::smallint[],
                     $16::text[]::contact_state[], $17::text[], $18::float8[], $19::text[], $20::text[], $21::text[])
      with ordinality
      as e (stream_id, outcome, reason, scope, attempts, state, next_node, next_wait, why, source, tracking, number)
), o as materialized (
  select j.job_id, j.contact_id, j.entry_id, j.reply, to_timestamp(j.dot_at) as dot_at,
         coalesce(to_timestamp(j.ended), now()) as ended, e.*, g.contact_id is null as is_first,
         g.window_until is null and g.state < 'cooling' or g.first_sent is null
           or g.told >= coalesce(to_timestamp(j.ended), now()) as is_told
    from unnest($4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::float8[], $9::float8[], $10::int[])
      as j (job_id, contact_id, entry_id, reply, dot_at, ended, ending)
    join endings e on e.number = j.ending
    left join lateral (
      select *
        from engagement
       where stream_id = e.stream_id and contact_id = j.contact_id and e.outcome = 'delivered'
       limit 1) g on true
), gates as materialized (
  select g.contact_id
    from gate g
   where g.contact_id = any(array(
           select o.contact_id
             from o
            cross join lateral (select slot from job where id = o.job_id limit 1) j
            where o.outcome in ('bounced', 'expired', 'skipped') and j.slot is not null))
   order by g.contact_id
     for no key update
), rows as materialized (
  select e.stream_id, e.contact_id
    from engagement e
    join o on o.stream_id = e.stream_id and o.contact_id = e.contact_id and o.is_told and not o.is_first
   where (select count(*) from gates) >= 0
   order by e.stream_id, e.contact_id
     for no key update of e
), entries as materialized (
  select n.id
    from entry n
   where n.id in (select entry_id from o)
     and n.ended is null
     and (select count(*) from rows) >= 0
   order by n.id
     for no key update
), jobs as materialized (
  -- With what is to be written of each: joined once more, by a CTE that has no statistics,
  -- it would be a nested loop over the batch.
  select j.id, j.program_id, j.stream_id, j.message_id, j.contact_id, j.entry_id, j.site_id, j.class, j.doubts,
         j.created, j.begun, j.slot, o.outcome, o.reason, o.scope, o.reply, o.attempts, o.dot_at,
         o.ended, o.state, o.next_node, o.next_wait, o.why, o.source, o.tracking,
         o.is_first, j.slot is not null and o.outcome in ('bounced', 'expired', 'skipped') as gives_back
    from job j
    join o on o.job_id = j.id
   where (j.worker = $1 or (j.doubts > 0 and o.outcome = 'delivered'))
     and (select count(*) from entries) >= 0
   order by j.id
     for update of j
), given_back as (
  update gate
     set version = gate.version + 1,
         (sent, sent_on) = (
           select array_agg(at order by at), array_agg(stream_id order by at)
             from unnest(gate.sent, gate.sent_on) as s (at, stream_id)
            where s.at <> all(f.slots))
    from (select contact_id, array_agg(slot) as slots
            from jobs
           where gives_back
           group by contact_id) f
   where gate.contact_id = f.contact_id
), gone as (
  delete from job where id = any(array(select id from jobs)) returning id
), data_gone as (
  delete from job_data using jobs where job_data.job_id = jobs.id
), written as (
  insert into ledger (job_id, program_id, stream_id, message_id, contact_id, entry_id, outcome, reason, scope, reply,
                      attempts, doubts, state_at_send, site_id, source, created, begun, dot_at, ended)
  select id, program_id, stream_id, message_id, contact_id, entry_id, outcome, reason, scope, reply,
         attempts, doubts, state, site_id, source, created, begun, dot_at, ended
    from jobs
), moved as (
  update entry
     set node = coalesce(j.next_node, entry.node),
         due = case when j.why is null then j.ended + j.next_wait * interval '1 s' end,
         ended = case when j.why is not null then j.ended end,
         why = j.why
    from jobs j
    join entries n on n.id = j.entry_id
   where entry.id = j.entry_id and (j.next_node is not null or j.why is not null)
), rules as materialized (
  select s.id, v.definition ->> 'tracking' as tracking,
         coalesce((v.definition #>> '{policy,window}')::float8, 259200) * interval '1 s' as span
    from stream s
    join stream_version v on v.stream_id = s.id and v.version = s.version
   where s.id = any(array(select stream_id from jobs where outcome = 'delivered' and class > 0))
), pixels as materialized (
  select id, pixel from message where id = any(array(select distinct message_id from jobs))
), arrived as materialized (
  select distinct on (j.stream_id, j.contact_id)
         j.stream_id, j.contact_id, j.is_first, j.ended as at, not m.pixel as unseen,
         case when coalesce(j.tracking, r.tracking) = 'full' then j.ended + r.span end as until
    from jobs j
    join rules r on r.id = j.stream_id
    join pixels m on m.id = j.message_id
   where j.outcome = 'delivered' and j.class > 0
   order by j.stream_id, j.contact_id, j.ended
), told as (
  -- Joined with `rows`, which has no statistics, it would be a nested loop over the batch.
  update engagement e
     set first_sent = coalesce(e.first_sent, a.at),
         since = case when e.first_sent is null then a.at else e.since end,
         score = case when e.first_sent is null then 0 else e.score end,
         round_from = case when e.first_sent is null then a.at else e.round_from end,
         window_until = case when e.window_until is null and e.state < 'cooling' and e.told < a.at then a.until
                             else e.window_until end,
         veiled = case when e.window_until is null and e.state < 'cooling' and e.told < a.at
                       then a.unseen and a.until is not null else e.veiled end,
         told = greatest(e.told, a.at),
         held = case when e.told >= a.at then least(e.held, a.at) else e.held end,
         wake_at = least(e.wake_at, case when e.told >= a.at then a.at
                                         when e.window_until is null and e.state < 'cooling' then a.until end)
    from arrived a
   where exists (select from rows)
     and e.stream_id = a.stream_id and e.contact_id = a.contact_id
     and (e.first_sent is null or e.told >= a.at
          or e.window_until is null and e.state < 'cooling' and a.until is not null)
), first_rows as (
  insert into engagement (stream_id, contact_id, since, round_from, first_sent, window_until, veiled, told, wake_at)
  select a.stream_id, a.contact_id, a.at, a.at, a.at, a.until, a.unseen and a.until is not null, a.at, a.until
    from arrived a
   where a.is_first
   order by a.stream_id, a.contact_id
  on conflict do nothing
), tallied as (
  insert into tally (program_id, slot, key, n)
  select program_id, $2,
         case when outcome = 'skipped' then 'skipped:' || reason else outcome::text end as key, count(*)
    from jobs
   group by 1, 3
   order by 1, 3
  on conflict (program_id, slot, key) do update set n = tally.n + excluded.n
)
select coalesce(array_agg(id), '{}'),
       -- Behind the delete: what is woken must not be one of those that are gone.
       case when bool_or(gives_back) and (select count(*) from gone) >= 0
            then wake_capped(array_agg(contact_id) filter (where gives_back)) end
  from jobs;

-- name: settle_returned
-- Jobs that go back to the queue after an attempt, or because the gate deferred
-- them. $1 worker, $2 slot; by job: $3 id, $4 seconds until due, $5 reason,
-- $6 attempts made in all, $7 whether this one is in doubt, and where a cap defers it $8 contact and
-- $9 version of its gate (else null): after a newer version a slot may be free again, so
-- it is due now.
with o as materialized (
  select *
    from unnest($3::bigint[], $4::float8[], $5::text[], $6::smallint[], $7::boolean[], $8::bigint[], $9::int[])
      as o (job_id, delay, reason, attempts, doubt, contact_id, version)
), gates as materialized (
  select contact_id, version
    from gate
   where contact_id = any(array(select contact_id from o where contact_id is not null))
   order by contact_id
     for share
), jobs as materialized (
  select j.id
    from job j
   where j.id in (select job_id from o) and j.worker = $1 and (select count(*) from gates) >= 0
   order by j.id
     for no key update
), back as (
  update job
     set worker = null, begun = null, reason = o.reason,
         due = now() + case when exists (select from gates g where g.contact_id = o.contact_id and g.version > o.version)
                            then 0 else o.delay end * interval '1 s',
         attempt = o.attempts, doubts = job.doubts + o.doubt::int,
         prio = (job.prio & ~1) | (o.attempts > 0)::int
    from jobs
    join o on o.job_id = jobs.id
   where job.id = jobs.id
  returning job.id, job.program_id, job.site_id, job.due
), tallied as (
  insert into tally (program_id, slot, key, n)
  select program_id, $2, 'deferred', count(*) from back group by program_id order by program_id
  on conflict (program_id, slot, key) do update set n = tally.n + excluded.n
)
select id from back;

-- name: release
-- Give jobs $2 of worker $1 back untouched: nothing of them was sent, their due time
-- stands, behind what is due at the same moment: of that some may go where these cannot.
-- Lanes that are closed or out of tokens are kept from them by the site's hint.
with jobs as materialized (
  select id from job where id = any($2::bigint[]) and worker = $1 order by id for no key update
)
update job set worker = null, begun = null, due = due + interval '1 microsecond' from jobs where job.id = jobs.id
returning job.id;

-- name: release_unknown
-- Give jobs of worker $1 back that it does not know of; $2 are those it does. A claim
-- may be committed without its answer being heard.
with jobs as materialized (
  select j.id
    from job j
   where j.id = any(array(select unnest(jobs) from lease where worker = $1)) and j.worker = $1 and j.begun is null
     and not exists (select from unnest($2::bigint[]) as k (id) where k.id = j.id)
   order by j.id
     for no key update of j
)
update job set worker = null from jobs where job.id = jobs.id
returning job.id;

-- name: wake_sites
-- A hint: jobs may be due at these sites now. One whose lane is closed sleeps on, or
-- each page of an enqueue would have a server dialled that is known not to answer.
with closed as materialized (
  select site_id, min(greatest(closed_until, suspended_until)) as until
    from lane
   where site_id = any($1::int[])
   group by site_id
), sites as materialized (
  select id from site where id = any($1::int[]) and ready_at > now() order by id for no key update
)
update site
   set ready_at = greatest(now(), closed.until)
  from sites
  left join closed on closed.site_id = sites.id
 where site.id = sites.id;

-- name: refresh_hints
-- Recompute every site's hint from the due index, and forget how far claims have passed where
-- something waits before that; lanes that are closed or out of tokens wait until they are not.
-- Exact within the next hour; what is due later can be seen later. Hints that were changed
-- meanwhile stay. The heads of the index are found by leaping from one site and prio to the next:
-- 75 ms of Postgres for 10,000 sites and 10 million jobs, where asking for each of six prios of
-- each site took 150; leaps with two bounds, as in claim, take as long, and 1.8 times as long where
-- half of the sites have no job.
with recursive heads as (
  (select site_id, prio, due, id
     from job
    where worker is null and not parked and site_id is not null
    order by site_id, prio, due, id
    limit 1)
   union all
  select n.site_id, n.prio, n.due, n.id
    from heads h
   cross join lateral (
     select site_id, prio, due, id
       from job
      where worker is null and not parked and (site_id, prio) > (h.site_id, h.prio)
      order by site_id, prio, due, id
      limit 1
   ) n
), opening as materialized (
  select site_id,
         min(greatest(closed_until, suspended_until,
                      tat - interval '1 s' * (greatest(1, burst - greatest(1, rate * 0.05)) - 1) / rate)) as at
    from (select site_id, closed_until, suspended_until, tat, least(rate, most_rate) as rate,
                 least(burst, most_burst) as burst
            from lane) l
   group by site_id
  having min(greatest(closed_until, suspended_until, tat)) > now()
), hints as (
  select s.id, s.ready_at, greatest(coalesce(min(h.due), 'infinity'), o.at) as at,
         coalesce(bool_or(h.prio = s.passed_prio and (h.due, h.id) <= (s.passed_due, s.passed_id)), false) as behind
    from site s
    left join heads h on h.site_id = s.id
    left join opening o on o.site_id = s.id
   group by s.id, o.at
), stale as materialized (
  select s.id, h.at, h.behind
    from hints h
    join site s on s.id = h.id and s.ready_at = h.ready_at
   where h.ready_at <> h.at and (h.at < h.ready_at or h.at > now()) and least(h.at, h.ready_at) <= now() + interval '1 h'
      or h.behind
   order by s.id
     for no key update of s skip locked
)
update site
   set ready_at = stale.at, passed_due = case when stale.behind then '-infinity' else site.passed_due end
  from stale
 where site.id = stale.id;

-- ── Workers ─────────────────────────────────────────────────────────────────

-- name: register_worker
-- $1 host, $2 slot, $3 pid, $4 whether it hears hits: nobody waits for one that does not.
insert into worker (host, slot, pid, ingested_until)
values ($1, $2, $3, case when $4::boolean then '-infinity'::timestamptz else 'infinity' end)
returning id;

-- name: former_workers
-- Those that held this slot of this host before and were not declared dead.
select id from worker where host = $1 and slot = $2 and id <> $3 and dead is null;

-- name: beat
-- No row: this worker was declared dead and may settle nothing.
update worker set beat = now() where id = $1 and dead is null returning id;

-- name: silent_workers
-- Workers without a beat for $1 seconds; and the dead who hold jobs: one that stood still may
-- claim before it hears that it was declared dead. Materialized, or the jobs of all leases were looked up.
with theirs as materialized (
  select l.worker, l.jobs from lease l join worker w on w.id = l.worker and w.dead is not null
)
select id from worker where dead is null and beat < now() - $1::float8 * interval '1 s'
 union
select t.worker
  from theirs t
 where exists (
   select from unnest(t.jobs) u (id) cross join lateral (select from job where id = u.id and worker = t.worker limit 1) j);

-- name: bury_workers
-- Declare workers $1 dead: from here on they can settle nothing.
with buried as materialized (
  select id from worker where id = any($1::int[]) and dead is null order by id for no key update
)
update worker set dead = now() from buried where worker.id = buried.id returning worker.id;

-- name: drop_sessions
delete from lane_session where worker = any($1::int[]);

-- name: free_jobs
-- Jobs of dead workers $1: what was not begun is due as before; what was begun is
-- in doubt, due in $2 seconds, by class. Returns id and whether it is in doubt.
with jobs as materialized (
  select id, begun
    from job
   where id = any(array(select unnest(jobs) from lease where worker = any($1::int[]))) and worker = any($1::int[])
   order by id
     for no key update
)
update job
   set worker = null,
       begun = null,
       attempt = job.attempt + (jobs.begun is not null)::int,
       doubts = job.doubts + (jobs.begun is not null)::int,
       prio = (job.prio & ~1) | (job.attempt > 0 or jobs.begun is not null)::int,
       due = case when jobs.begun is null then job.due else now() + ($2::float8[])[job.class + 1] * interval '1 s' end,
       reason = case when jobs.begun is null then job.reason
                     else 'in doubt: its worker died between begin and the answer to the final dot' end
  from jobs
 where job.id = jobs.id
returning job.id, jobs.begun is not null;

-- name: end_leases
-- Forget the leases of which nothing is held any more.
with over as materialized (
  select l.id
    from lease l
   where not exists (
     select from unnest(l.jobs) u (id) cross join lateral (select from job where id = u.id and worker = l.worker limit 1) j)
   order by l.id
     for update of l skip locked
)
delete from lease using over where lease.id = over.id returning lease.id;

-- ── Lanes ───────────────────────────────────────────────────────────────────

-- name: site_hosts
select id, name, hosts from site where id = any($1::int[]);

-- name: lanes_of
-- The lanes to sites $1, with their limits: $2 rates, $3 bursts, $4 sessions, $5 sources, and $6 who runs the sites.
with given as materialized (
  select g.*, s.name, s.hosts
    from unnest($1::int[], $2::float8[], $3::float8[], $4::int[], $5::text[], $6::text[])
      as g (site_id, rate, burst, sessions, source, provider)
    join lateral (select * from site where id = g.site_id limit 1) s on true
), known as materialized (
  select l.id
    from lane l
   where l.site_id = any($1::int[]) and l.source = any($5::text[])
   order by l.id
     for no key update
), lanes as (
  insert into lane (source, site_id, rate, burst, sessions, provider, suspended_until)
  select source, site_id, rate, burst, sessions, provider,
         coalesce((select max(until)
                     from suspension
                    where lifted is null
                      and (kind, key) in (('source', source), ('site', name), ('lane', source || '/' || name))),
                  '-infinity')
    from given
   where (select count(*) from known) >= 0
   order by site_id, source
  on conflict (source, site_id) do update
    set rate = excluded.rate, burst = excluded.burst, sessions = excluded.sessions, provider = excluded.provider
  returning id, site_id, source, sessions, provider
)
select l.id, l.site_id, g.name, g.hosts, l.sessions, l.source, l.provider
  from lanes l
  join given g using (site_id, source)
 order by l.site_id, l.id;

-- name: hold_sessions
-- Worker $1 wants to hold $3 sessions of lanes $2, and cannot hold fewer than $4; $5:
-- beyond its share of the lane, as long as others leave some and none lacks any of its own. The share of a worker is
-- what there would be for each if all had use for it. One statement, so that a worker which
-- stands still in the middle keeps no lane locked; so what others hold is asked for by a
-- function, which sees what they have taken while we waited for the lock. Counts
-- are absolute: one that could not be written is put right by the next. A lane that is
-- closed, or without tokens for longer than a session waits for one, gets no further: it
-- would be dialled in vain. Returns Grants.
with lanes as materialized (
  select id, sessions, most_sessions, closed_until, suspended_until, tat,
         least(rate, most_rate) as rate, least(burst, most_burst) as burst
    from lane
   where id = any($2::int[])
   order by id
     for no key update
), living as (
  select count(*) as n from worker where dead is null
), others as materialized (
  select o.* from (select array_agg(id) as ids from lanes) l cross join lateral sessions_of_others(l.ids, $1) o
), wishes as (
  select w.*, l.share, coalesce(o.sessions, 0) as others,
         case when greatest(l.closed_until, l.suspended_until, l.tat - interval '1 s' * (l.reserved - 1) / l.rate)
                   < clock_timestamp() + interval '1 s' then l.most
              else 0 end as most,
         coalesce(o.lack, false) as others_lack
    from (select *, least(sessions, most_sessions) as most, (least(sessions, most_sessions) + n - 1) / n as share,
                 greatest(1, burst - greatest(1, rate * 0.05)) as reserved
            from lanes cross join living) l
    join unnest($2::int[], $3::int[], $4::int[], $5::boolean[]) as w (lane_id, wanted, running, growing)
      on w.lane_id = l.id
    left join others o on o.lane = l.id
), granted as (
  select *, greatest(running, least(wanted, most - others,
                                    case when growing and not others_lack then most else share end)) as sessions
    from wishes
), held as (
  insert into lane_session as s (lane_id, worker, sessions, lacking)
  select lane_id, $1, sessions, case when most > 0 and sessions < least(wanted, share) then now() end
    from granted
   order by lane_id
  on conflict (lane_id, worker) do update set sessions = excluded.sessions, lacking = excluded.lacking
)
select lane_id, sessions, share, others_lack from granted;

-- name: leave_lanes
-- Worker $1 holds no session of lanes $2 any more. Without the lanes' locks: it only lowers our own count, which
-- nobody else writes while we live, so no limit is exceeded; who sees it late takes fewer. A hold of ours that was cut
-- off and commits behind it is put right by the next. With locks, and with what others hold, it was half of the cost
-- of a session of the tail.
update lane_session set sessions = 0, lacking = null where worker = $1 and lane_id = any($2::int[]);

-- name: close_lane
-- No begin for $2 seconds, because $3, and no claim until one of the site's lanes opens.
with closed as (
  update lane set closed_until = greatest(closed_until, now() + $2::float8 * interval '1 s'), closed_why = $3
   where id = $1
  returning id, site_id, closed_until
)
update site
   set ready_at = greatest(site.ready_at, (
         select min(case when l.id = closed.id then closed.closed_until
                         else greatest(l.closed_until, l.suspended_until) end)
           from lane l
          where l.site_id = closed.site_id))
  from closed
 where site.id = closed.site_id;

-- ── Domains ─────────────────────────────────────────────────────────────────

-- name: site_of_domain
select s.name, s.hosts from domain d join site s on s.id = d.site_id where d.name = $1;

-- name: domains_to_resolve
-- Up to 200 domains that have to be asked for (again), whether they have a site, for how
-- many seconds DNS has said that they do not exist, and their policy. They are not handed out
-- again for a minute: so many can be under way, and those of a housekeeper that died are not lost.
with due as materialized (
  select id from domain where resolve_at <= now() order by resolve_at limit 200 for no key update skip locked
)
update domain set resolve_at = now() + interval '1 min'
  from due
 where domain.id = due.id
returning domain.id, domain.name, domain.site_id is not null,
          extract(epoch from now() - domain.absent_since)::float8, domain.mta_sts;

-- name: ask_again
-- Domains that do not belong where the configuration says are asked for again now. Those
-- of routes: $1, their sites $2, that of all others $3 (null: DNS); the rest were at the
-- site of a route, which has a port in its name. Domains $4 have a site of their own
-- (mtad/shape/layers.py).
with wanted as materialized (
  select d.id, d.name, s.name as site, coalesce(r.site, $3::text) as routed, d.name = any($4::text[]) as own
    from domain d
    join site s on s.id = d.site_id
    left join unnest($1::text[], $2::text[]) as r (domain, site) on r.domain = d.name
), stale as materialized (
  select d.id
    from domain d
   where d.id in (
     select id
       from wanted
      where case when routed is not null then site <> case when own then name || ' via ' else '' end || routed
                 else own <> starts_with(site, name || ' via ') or site ~ '^[^,]*:[0-9]+$' end)
   order by d.id
     for no key update
)
update domain set resolve_at = now() from stale where domain.id = stale.id returning domain.id;

-- name: sites_by_name
-- Sites $1 (an object, name → hosts), made or brought up to date. Returns name and id.
-- Those that are known are locked in order of id first, as wake_sites does.
with given as materialized (
  select g.key as name, array(select jsonb_array_elements_text(g.value)) as hosts from jsonb_each($1::jsonb) g
), known as materialized (
  select s.id from site s where s.name in (select name from given) order by s.id for no key update
)
insert into site (name, hosts)
select name, hosts from given where (select count(*) from known) >= 0 order by name
on conflict (name) do update set hosts = excluded.hosts
returning name, id;

-- name: label_domains
-- What was found out about domains $1: their sites $2 (null: as before), in how many
-- seconds they are asked for again $3, why there was no answer that helps $4 (null: there
-- was one), whether DNS says that they do not exist $5 (null: it says nothing), their policies $6.
-- Up to a tenth is added to the seconds, so that what was imported at once is not asked
-- for at once for ever. Where a domain had another site, its mail has to follow.
-- Returns whether each has its first site now.
with given as materialized (
  select * from unnest($1::int[], $2::int[], $3::float8[], $4::text[], $5::boolean[], $6::jsonb[])
    as g (id, site_id, again, trouble, absent, policy)
), domains as materialized (
  select d.id, d.site_id from domain d where d.id in (select id from given) order by d.id for no key update
), moved as (
  insert into domain_move (domain_id, from_site)
  select d.id, d.site_id from domains d join given g using (id) where d.site_id <> g.site_id order by d.id
  on conflict (domain_id, from_site) do update set moved = now()
)
update domain
   set site_id = coalesce(g.site_id, domain.site_id),
       resolve_at = now() + g.again * (1 + random() / 10) * interval '1 s',
       trouble = g.trouble,
       absent_since = case when g.absent then coalesce(domain.absent_since, now())
                           when g.absent is null then domain.absent_since end,
       mta_sts = g.policy
  from given g
  join domains d using (id)
 where domain.id = g.id
returning d.site_id is null and domain.site_id is not null;

-- name: label_jobs
-- Waiting jobs whose domain has been resolved since they were made.
with jobs as materialized (
  select j.id, d.site_id
    from job j
    join contact c on c.id = j.contact_id
    join domain d on d.id = c.domain_id
   where j.site_id is null and j.worker is null and not j.parked and d.site_id is not null
   order by j.id
   limit 10000
     for no key update of j
)
update job set site_id = jobs.site_id from jobs where job.id = jobs.id returning job.site_id;

-- name: label_overdue
-- Waiting jobs whose domain was not resolved until they were too late go to a site named
-- $1, without hosts, so that they are claimed and the gate ends them. 10 minutes later,
-- because the gate reads the clock of its worker.
with jobs as materialized (
  select id
    from job
   where site_id is null and worker is null and not parked and not_after < now() - interval '10 min'
   order by id
   limit 10000
     for no key update
), nowhere as (
  insert into site (name, hosts)
  select $1, '{}' where exists (select from jobs)
  on conflict (name) do update set ready_at = now()
  returning id
)
update job set site_id = nowhere.id, due = least(job.due, now())
  from jobs
 cross join nowhere
 where job.id = jobs.id
returning job.id;

-- name: domain_moves
-- Domains whose mail has to follow them: from where, to where, since when, and how many seconds ago.
select m.domain_id, m.from_site, d.site_id, m.moved, extract(epoch from now() - m.moved)::float8
  from domain_move m
  join domain d on d.id = m.domain_id
 order by m.domain_id, m.from_site
 limit 10000;

-- name: move_jobs
-- Waiting mail to the next 5,000 contacts of domain $1 behind contact $4 goes from site $2
-- to site $3, paused mail too. Returns the last of these contacts (null: there was none),
-- how many jobs went, and the ids of those that a worker holds.
-- Plan: contact_domain_idx, job_contact_idx (tests/db/test_plans.py).
with contacts as materialized (
  select id from contact where domain_id = $1 and id > $4 order by id limit 5000
), here as materialized (
  select j.id
    from contacts c
   cross join lateral (select id from job where contact_id = c.id and site_id = $2 offset 0) j
), waiting as materialized (
  select id
    from job
   where id = any(array(select id from here)) and site_id = $2 and worker is null
   order by id
     for no key update
), moved as (
  update job set site_id = $3 from waiting where job.id = waiting.id returning job.id
)
select (select max(id) from contacts),
       (select count(*) from moved),
       array(select id from here except select id from moved);

-- name: move_held
-- Those of jobs $1 that wait again by now go from site $2 to site $3. Returns those that
-- were there still, and whether they went.
with waiting as materialized (
  select id
    from job
   where id = any($1::bigint[]) and site_id = $2 and worker is null
   order by id
     for no key update
), moved as (
  update job set site_id = $3 from waiting where job.id = waiting.id returning job.id
)
select j.id, m.id is not null
  from job j
  left join moved m on m.id = j.id
 where j.id = any($1::bigint[]) and j.site_id = $2;

-- name: end_move
-- All mail of domain $1 has left site $2, unless it moved again after $3.
delete from domain_move where domain_id = $1 and from_site = $2 and moved = $3;
