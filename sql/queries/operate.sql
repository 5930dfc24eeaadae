-- What operators ask of the queue as a whole: mtad/ops/answers/queue.py. Reads only. Nothing here
-- costs more for a deeper queue: heads of indexes, bounded counts, a sample of its pages.

-- name: sample_percent
-- How much of the queue's table a sample reads, in percent: $1 pages, or all of it.
select least(100, 100.0 * $1::int * current_setting('block_size')::int / greatest(pg_relation_size('job'), 1))::float8;

-- name: sampled_sites
-- By site, in $1 percent of the table's pages, of program $2 or of all (null): waiting, of
-- these due, of these tried before; held (of paused programs); when the first is due.
select site_id,
       count(*) filter (where worker is null and not parked),
       count(*) filter (where worker is null and not parked and due <= now()),
       count(*) filter (where worker is null and not parked and attempt > 0),
       count(*) filter (where parked),
       nullif(min(due) filter (where worker is null and not parked), 'infinity')
  from job tablesample system ($1)
 where $2::int is null or program_id = $2
 group by site_id;

-- name: program_sites
-- The same of program $1, from up to 50,000 of its jobs: fewer, and it is exact.
with few as materialized (
  select site_id, worker, parked, due, attempt from job where program_id = $1 limit 50000
)
select site_id,
       count(*) filter (where worker is null and not parked),
       count(*) filter (where worker is null and not parked and due <= now()),
       count(*) filter (where worker is null and not parked and attempt > 0),
       count(*) filter (where parked),
       nullif(min(due) filter (where worker is null and not parked), 'infinity')
  from few
 group by site_id;

-- name: busy_sites
-- By site: claimed by workers, of these begun; and in doubt, wherever they are. Of program
-- $1 or of all (null). Both are few: what workers hold in memory, what sessions had open.
select site_id,
       count(*) filter (where worker is not null),
       count(*) filter (where worker is not null and begun is not null),
       count(*) filter (where doubts > 0)
  from (select j.id, j.site_id, j.worker, j.begun, j.doubts, j.program_id
          from lease l
         cross join unnest(l.jobs) u (id)
         cross join lateral (select * from job where id = u.id and worker = l.worker limit 1) j
         union
        select id, site_id, worker, begun, doubts, program_id from job where doubts > 0) x
 where $1::int is null or program_id = $1
 group by site_id;

-- name: heads
-- The sites that have waiting jobs, and when the first of each is or was due. By leaping
-- from one site and prio to the next, as refresh_hints does.
with recursive heads as (
  (select site_id, prio, due
     from job
    where worker is null and not parked and site_id is not null
    order by site_id, prio, due
    limit 1)
   union all
  select n.site_id, n.prio, n.due
    from heads h
   cross join lateral (
     select site_id, prio, due
       from job
      where worker is null and not parked and (site_id, prio) > (h.site_id, h.prio)
      order by site_id, prio, due
      limit 1
   ) n
)
select site_id, nullif(min(due), 'infinity') from heads group by site_id;

-- name: counted_sites
-- Of sites $1: waiting, due and tried before, each counted up to 10,000; and the reply
-- to the mail that was deferred for longest, which mostly is the last that was deferred.
select s.id,
       (select count(*) from (
          select from job where site_id = s.id and worker is null and not parked limit 10000) x),
       (select count(*) from (
          select from generate_series(0, 21) p (prio)
           cross join lateral (
             select from job where site_id = s.id and prio = p.prio::smallint and worker is null and not parked and due <= now() limit 10000) y
           limit 10000) x),
       (select count(*) from (
          select from generate_series(1, 21, 2) p (prio)
           cross join lateral (select from job where site_id = s.id and prio = p.prio::smallint and worker is null and not parked limit 10000) y
           limit 10000) x),
       (select y.reason
          from generate_series(1, 21, 2) p (prio)
         cross join lateral (
           select reason, due from job where site_id = s.id and prio = p.prio::smallint and worker is null and not parked
            order by due desc limit 1) y
         order by y.due desc
         limit 1)
  from unnest($1::int[]) s (id);

-- name: unlabelled
-- Domains that are not resolved yet, each with how many jobs wait for that, most first, and
-- why there is no answer; of the first 10,000 such jobs.
select d.name, count(*), d.trouble
  from (select contact_id from job where site_id is null and worker is null and not parked limit 10000) x
  join contact c on c.id = x.contact_id
  join domain d on d.id = c.domain_id
 group by d.name, d.trouble
 order by count(*) desc, d.name;

-- name: lanes_of_sites
-- The lanes to sites $1 as begin would find them now, under what limits them for a while:
-- tokens at hand, sessions that living workers hold, until when and why nothing begins, and
-- where its source is being warmed up: mails to the provider today, allowed and taken.
select l.id, l.site_id, s.name, l.source, b.rate::float8, b.burst::float8,
       greatest(0, floor(greatest(1, b.burst - greatest(1, b.rate * 0.05))
                         - greatest(0, extract(epoch from l.tat - now())) * b.rate))::float8,
       (select coalesce(sum(x.sessions), 0)::int
          from lane_session x join worker w on w.id = x.worker
         where x.lane_id = l.id and w.dead is null),
       least(l.sessions, l.most_sessions),
       case when l.closed_until > now() then l.closed_until end,
       case when l.closed_until > now() then l.closed_why end,
       l.provider, w.allowed, w.granted
  from lane l
  join site s on s.id = l.site_id
  left join warmup w on w.source = l.source and w.provider = l.provider and w.day = (now() at time zone 'utc')::date
 cross join lateral (select least(l.rate, l.most_rate) as rate, least(l.burst, l.most_burst) as burst) b
 where l.site_id = any($1::int[])
 order by l.site_id, l.source;

-- name: names_of_sites
select id, name from site where id = any($1::int[]);

-- name: closed_sites
-- Sites with a lane on which nothing begins now.
select distinct site_id from lane where closed_until > now() or suspended_until > now();

-- name: sites_like
-- Sites whose name holds $1, up to 1,000; the site of the domain of that name too.
(select id from site where position(lower($1) in lower(name)) > 0 order by id limit 1000)
union
select site_id from domain where name = lower($1) and site_id is not null;

-- ── What operators do to waiting jobs: mtad/ops/waiting.py ──────────────────

-- name: ends_of_queue
-- The lowest and the highest id; 1 and 0 when nothing is queued.
select coalesce(min(id), 1), coalesce(max(id), 0) from job;

-- name: window_end
-- The last of the 5,000 jobs that follow $1, at most $2; null: there is none. Windows of
-- ids read the queue once, in order, however often it is deleted from at their start.
select max(id) from (select id from job where id > $1 and id <= $2 order by id limit 5000) x;

-- name: waiting_in_window
-- Of jobs $1 < id ≤ $2 those that wait, paused ones among them: of site $3, of domain $4,
-- of program $5, of streams $6; null: of any.
select j.id, j.program_id, j.version, m.node
  from job j
  join lateral (select * from message where id = j.message_id limit 1) m on true
 where j.id > $1 and j.id <= $2 and j.worker is null
   and ($3::int is null or j.site_id = $3)
   and ($4::int is null or (select domain_id from contact where id = j.contact_id) = $4)
   and ($5::int is null or j.program_id = $5)
   and ($6::int[] is null or j.stream_id = any($6))
 order by j.id;

-- name: stream_definitions
select s.name, v.definition
  from stream s
  join stream_version v on v.stream_id = s.id and v.version = s.version
 order by s.name;

-- name: streams_of_pools
-- The streams whose mail goes by one of pools $1.
select s.id
  from stream s
  join stream_version v on v.stream_id = s.id and v.version = s.version
 where coalesce(v.definition->>'pool', 'default') = any($1::text[]);

-- name: source_is_known
-- Whether mail has gone, or could have gone, by source $1.
select exists (select from lane where source = $1);

-- name: purge_jobs
-- End jobs $1 without sending them: skipped as 'purged', by $2; what is in doubt is given up
-- as that, it may have arrived. Entries go on to nodes $3 after $4 seconds. Passes over what
-- was claimed meanwhile; a slot that counted for caps is free again. Locks gates, entries, then
-- jobs, each in the order of its key. Returns how many, and where slots came back the sites at
-- which mail is due that waited for one.
with o as materialized (
  select * from unnest($1::bigint[], $3::text[], $4::float8[]) as o (job_id, next_node, next_wait)
), gates as materialized (
  select g.contact_id
    from gate g
   where g.contact_id = any(array(
           select j.contact_id from job j where j.id = any($1::bigint[]) and j.slot is not null and j.doubts = 0))
   order by g.contact_id
     for no key update
), entries as materialized (
  select n.id
    from entry n
   where n.id in (select j.entry_id from job j where j.id in (select job_id from o)) and n.ended is null
     and (select count(*) from gates) >= 0
   order by n.id
     for no key update
), jobs as materialized (
  select j.*, o.next_node, o.next_wait, case when j.doubts > 0 then 'in_doubt' else 'skipped' end::outcome as outcome
    from job j
    join o on o.job_id = j.id
   where j.worker is null and (select count(*) from entries) >= 0
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
           where slot is not null and outcome = 'skipped'
           group by contact_id) f
   where gate.contact_id = f.contact_id
), gone as (
  delete from job using jobs where job.id = jobs.id
  returning case when jobs.slot is not null and jobs.outcome = 'skipped' then jobs.contact_id end as freed
), data_gone as (
  delete from job_data using jobs where job_data.job_id = jobs.id
), written as (
  insert into ledger (job_id, program_id, stream_id, message_id, contact_id, entry_id, outcome, reason, reply,
                      attempts, doubts, site_id, created, ended)
  select id, program_id, stream_id, message_id, contact_id, entry_id, outcome, 'purged', $2,
         attempt, doubts, site_id, created, now()
    from jobs
), moved as (
  update entry set node = j.next_node, due = now() + j.next_wait * interval '1 s'
    from jobs j
    join entries n on n.id = j.entry_id
   where entry.id = j.entry_id
), tallied as (
  insert into tally (program_id, slot, key, n)
  select program_id, $5::smallint, case when outcome = 'skipped' then 'skipped:purged' else 'in_doubt' end as key, count(*)
    from jobs
   group by 1, 3
   order by 1, 3
  on conflict (program_id, slot, key) do update set n = tally.n + excluded.n
)
select count(*), case when count(freed) > 0 then wake_capped(array_agg(freed) filter (where freed is not null)) end
  from gone;

-- name: rebind_jobs
-- Waiting jobs $1 go to site $2; with $3 those of them that wait after a refusal are due now. What goes
-- there already is left alone: its refusals are that site's.
with jobs as materialized (
  select id from job where id = any($1::bigint[]) and worker is null order by id for no key update
)
update job
   set site_id = $2, due = case when $3::boolean and attempt > 0 and doubts = 0 then least(due, now()) else due end
  from jobs
 where job.id = jobs.id and site_id is distinct from $2
returning job.id;

-- name: wake_suspended
-- Jobs $1 that the gate put off because they were suspended are due now; their sites.
with jobs as materialized (
  select id
    from job
   where id = any($1::bigint[]) and worker is null and not parked and starts_with(reason, 'suspended:') and due > now()
   order by id
     for no key update
)
update job set due = now(), reason = null from jobs where job.id = jobs.id returning job.site_id;

-- name: order_standing
-- From now on $1 (purge, rebind) what comes for kind $2, key $3, to site $4 and at once $5,
-- until $6 because $7, by $8; suspension $9 holds it meanwhile. Jobs up to $10 are looked at by who
-- says so, $11 were changed; the last 100,000 ids are once more, for some were being queued
-- meanwhile, 5,000 a page.
insert into standing_order (verb, kind, key, site_id, at_once, until, reason, made_by, suspension_id, passed, seen, changed)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, greatest(0, $10::bigint - 100000), $10, $11)
returning id;

-- name: standing_orders
select o.id, o.verb, o.kind, o.key, s.name, o.until, o.reason, o.made_by, o.made, o.changed,
       o.site_id, o.at_once, o.suspension_id, o.passed, o.seen_at < now() - interval '5 s', o.until <= now()
  from standing_order o
  left join site s on s.id = o.site_id
 order by o.id;

-- name: advance_order
-- Order $1 has gone on to job $2 and changed $3 more. With $4 what was seen 5 s before this
-- pass began is done with: who takes an id commits it by then.
update standing_order
   set passed = case when $4::boolean then seen else passed end,
       seen = case when $4 then greatest(seen, $2) else seen end,
       seen_at = case when $4 then now() else seen_at end,
       changed = changed + $3
 where id = $1 and ($4 or $3 > 0);

-- name: end_orders
-- Orders $1, and those of suspensions $2. Returns each with its suspension where no other order needs it.
delete from standing_order o
 where o.id = any($1::bigint[]) or o.suspension_id = any($2::bigint[])
returning o.id, case when not exists (
  select from standing_order x
   where x.suspension_id = o.suspension_id and x.id <> all($1) and x.suspension_id <> all($2)) then o.suspension_id end;

-- name: domain_by_name
select id from domain where name = $1;

-- name: sites_of_name
-- The site of exactly this name, or that of the domain of this name; else up to 5 sites that have it in theirs.
select id, name from site
 where id = coalesce((select id from site where name = $1), (select site_id from domain where name = lower($1)))
 union
select id, name from (
  select id, name
    from site
   where position(lower($1) in lower(name)) > 0
     and not exists (select from site where name = $1)
     and not exists (select from domain where name = lower($1) and site_id is not null)
   order by name
   limit 5) x
 order by name;

-- ── Who delivers: mtad/ops/top.py, mtad/cli/live.py ─────────────────────────

-- name: living_workers
select w.id, w.host, w.slot::int, w.pid, w.started, extract(epoch from clock_timestamp() - w.beat)::float8,
       (select coalesce(sum(s.sessions), 0)::int from lane_session s where s.worker = w.id)
  from worker w
 where w.dead is null
 order by w.host, w.slot, w.id;

-- name: hosts_of_domain
-- The hosts of the site of domain $1, "preference host:port".
select s.hosts from domain d join site s on s.id = d.site_id where d.name = $1;

-- ── What a queued mail waits for: mtad/ops/answers/delivery.py ──────────────

-- name: queued_of_contact
-- The queued mails of contact $1 with their sites; and of those that wait and are due how
-- many of their site are claimed before them, counted up to 10,000 for each prio.
select j.id, j.site_id, s.name, d.name, p.name, j.due, j.worker, d.trouble,
       case when j.worker is null and not j.parked and j.due <= now() then (
         select count(*)
           from generate_series(0, 21) v (prio)
          cross join lateral (
            select from job
             where site_id = j.site_id and prio = v.prio::smallint and worker is null and not parked
               and due < case when v.prio < j.prio then now() else j.due end
             limit 10000) x
          where v.prio <= j.prio) end
  from job j
  join contact c on c.id = j.contact_id
  join domain d on d.id = c.domain_id
  join program p on p.id = j.program_id
  left join site s on s.id = j.site_id
 where j.contact_id = $1
 order by j.id;

-- name: contact_of_job
-- Whose mail job $1 was, and its program; contact null: erased.
select j.contact_id, p.name from job j join program p on p.id = j.program_id where j.id = $1
 union all
select l.contact_id, p.name from ledger l join program p on p.id = l.program_id where l.job_id = $1;

-- name: address_of_contact
select address from contact where id = $1;
