-- What operators ask of the queue as a whole: mtad/ops/answers/queue.py. Reads only. Nothing here
-- costs more for a deeper queue: heads of indexes, bounded counts, a sample of its pages.

-- name: sample_percent
-- How much of the queue's table a sample reads, in percent: $1 pages, or all of it.
select least(100, 100.0 * $1::int * current_setting('block_size')::int / greatest(pg_relation_size('job'), 1))::float8;

-- name: sampled_sites
-- By site, in $1 percent of the table's pages, of program $2 or of all (null): waiting, of
-- these due, of these tried before; held (of paused programs); when the first is due.
select site_id,
       count(*) filter (where worker is null),
       count(*) filter (where worker is null and due <= now()),
       count(*) filter (where worker is null and attempt > 0),
       count(*) filter (where worker = 0),
       nullif(min(due) filter (where worker is null), 'infinity')
  from job tablesample system ($1)
 where $2::int is null or program_id = $2
 group by site_id;

-- name: program_sites
-- The same of program $1, from up to 50,000 of its jobs: fewer, and it is exact.
with few as materialized (
  select site_id, worker, due, attempt from job where program_id = $1 limit 50000
)
select site_id,
       count(*) filter (where worker is null),
       count(*) filter (where worker is null and due <= now()),
       count(*) filter (where worker is null and attempt > 0),
       count(*) filter (where worker = 0),
       nullif(min(due) filter (where worker is null), 'infinity')
  from few
 group by site_id;

-- name: busy_sites
-- By site: claimed by workers, of these begun; and in doubt, wherever they are. Of program
-- $1 or of all (null). Both are few: what workers hold in memory, what sessions had open.
select site_id,
       count(*) filter (where worker > 0),
       count(*) filter (where worker > 0 and begun is not null),
       count(*) filter (where doubts > 0)
  from (select id, site_id, worker, begun, doubts, program_id from job where worker > 0
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
    where worker is null and site_id is not null
    order by site_id, prio, due
    limit 1)
   union all
  select n.site_id, n.prio, n.due
    from heads h
   cross join lateral (
     select site_id, prio, due
       from job
      where worker is null and (site_id, prio) > (h.site_id, h.prio)
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
          select from job where site_id = s.id and worker is null limit 10000) x),
       (select count(*) from (
          select from (values (0::smallint), (1::smallint), (2::smallint), (3::smallint), (4::smallint), (5::smallint)) p (prio)
           cross join lateral (
             select from job where site_id = s.id and prio = p.prio and worker is null and due <= now() limit 10000) y
           limit 10000) x),
       (select count(*) from (
          select from (values (1::smallint), (3::smallint), (5::smallint)) p (prio)
           cross join lateral (select from job where site_id = s.id and prio = p.prio and worker is null limit 10000) y
           limit 10000) x),
       (select y.reason
          from (values (1::smallint), (3::smallint), (5::smallint)) p (prio)
         cross join lateral (
           select reason, due from job where site_id = s.id and prio = p.prio and worker is null
            order by due desc limit 1) y
         order by y.due desc
         limit 1)
  from unnest($1::int[]) s (id);

-- name: unlabelled
-- Waiting jobs whose domain is not resolved yet, counted up to 10,000.
select count(*) from (select from job where site_id is null and worker is null limit 10000) x;

-- name: lanes_of_sites
-- The lanes to sites $1 as begin would find them now: tokens at hand, sessions that living
-- workers hold, and until when and why nothing begins.
select l.site_id, s.name, l.source, l.rate::float8, l.burst::float8,
       greatest(0, floor(b.most - greatest(0, extract(epoch from l.tat - now())) * l.rate))::float8,
       (select coalesce(sum(x.sessions), 0)::int
          from lane_session x join worker w on w.id = x.worker
         where x.lane_id = l.id and w.dead is null),
       l.sessions,
       case when l.closed_until > now() then l.closed_until end,
       case when l.closed_until > now() then l.closed_why end
  from lane l
  join site s on s.id = l.site_id
 cross join lateral (select greatest(1, l.burst - greatest(1, l.rate * 0.05)) as most) b
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
