-- Whether trackers can be reached from outside: mtad/ops/probe.py, mtad/ops/reach.py.

-- name: addresses
-- Every stream, the tracking address that it says ('': that of the configuration), and what was found last: Reach.
select s.id, s.name, coalesce(v.definition ->> 'tracking_url', ''),
       r.stream_id is not null, r.address, r.good, r.answered, r.asked, r.failures, r.holds, r.why
  from stream s
  join stream_version v on v.stream_id = s.id and v.version = s.version
  left join reach r on r.stream_id = s.id
 order by s.id;

-- name: write_reach
-- What was found of streams $1.
insert into reach (stream_id, address, good, answered, asked, failures, holds, why)
select *
  from unnest($1::int[], $2::text[], $3::timestamptz[], $4::boolean[], $5::timestamptz[], $6::int[], $7::boolean[],
              $8::text[]) as r (stream_id, address, good, answered, asked, failures, holds, why)
 order by stream_id
    on conflict (stream_id) do update
   set address = excluded.address, good = excluded.good, answered = excluded.answered, asked = excluded.asked,
       failures = excluded.failures, holds = excluded.holds, why = excluded.why;

-- name: note_unreached
-- Nobody of stream $1 could be heard from $2 to $3. What comes within 10 minutes of another span goes on
-- with that one, so an address that comes and goes makes no thousands of rows, each a fact of every replay.
with longer as (
  update unreached set until = greatest(until, $3)
   where stream_id = $1 and until >= $2::timestamptz - interval '10 min'
  returning 1
)
insert into unreached (stream_id, since, until) select $1, $2, $3 where not exists (select from longer);

-- name: forget_reach
delete from reach;

-- name: unread_hosts
-- Hosts whose dead left hits that nobody has read: up to when these are read, and since when that is so.
select host, min(greatest(ingested_until, started)), min(dead) from unread group by host order by host;

-- name: deaf_since
-- When the last worker that hears hits went, where only others live for a minute by now; null: somebody hears, or
-- nobody ever did, or nobody lives at all.
select case when bool_or(dead is null) and not bool_or(dead is null and ingested_until < 'infinity')
                 and max(dead) filter (where ingested_until < 'infinity') < now() - interval '1 min'
            then max(dead) filter (where ingested_until < 'infinity') end
  from worker;
