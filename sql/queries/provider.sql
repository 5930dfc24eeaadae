-- What holds for all sites of a provider together, over all workers. mtad/queue/providers.py.
-- Nothing here is locked together with anything else.

-- name: know_providers
-- Rows for sources $1 with providers $2, where there are none.
insert into provider_pace (source, provider)
select source, provider from unnest($1::text[], $2::text[]) as g (source, provider)
 group by source, provider
 order by source, provider
on conflict do nothing;

-- name: take_paces
-- Somebody wants to send mails by sources $1 to providers $2, one each; there may be $3 a
-- second and $4 at once. GCRA and its reserve as in begin. Returns, in the order of the
-- wishes, the seconds to wait; 0: taken, go.
with wishes as materialized (
  select *
    from unnest($1::text[], $2::text[], $3::float8[], $4::float8[]) with ordinality
      as w (source, provider, rate, burst, number)
), paces as materialized (
  select p.source, p.provider, p.tat
    from provider_pace p
   where (p.source, p.provider) in (select source, provider from wishes)
   order by p.source, p.provider
     for no key update
), tick as materialized (
  select clock_timestamp() as at from (select count(*) from paces) evaluated_last
), ranked as materialized (
  select w.number, w.source, w.provider, 1 / w.rate as every, t.at,
         greatest(1, w.burst - greatest(1, w.rate * 0.05)) as burst,
         least(greatest(p.tat, t.at), t.at + w.burst / w.rate * interval '1 s') as tat,
         row_number() over (partition by w.source, w.provider order by w.number) as rank
    from wishes w
    join paces p using (source, provider)
   cross join tick t
), answered as materialized (
  select number, source, provider, every, tat,
         greatest(0, extract(epoch from tat - at) + (rank - burst) * every)::float8 as wait
    from ranked
), paid as (
  update provider_pace p set tat = g.tat + g.n * g.every * interval '1 s'
    from (select source, provider, tat, every, count(*) as n
            from answered
           where wait = 0
           group by source, provider, tat, every) g
   where p.source = g.source and p.provider = g.provider
)
select wait from answered order by number;

-- name: lock_providers
select source, provider
  from provider_pace
 where (source, provider) in (select * from unnest($1::text[], $2::text[]))
 order by source, provider
   for no key update;

-- name: hold_of_providers
-- Worker $1 wants to hold $4 sessions by sources $2 to providers $3, and cannot hold fewer
-- than $5; all workers together may $6. The caller has locked them by an earlier statement.
-- Returns what it holds, in the order of the wishes. Counts are absolute.
with wishes as materialized (
  select w.*, (select coalesce(sum(x.sessions), 0)::int
                 from provider_session x
                 join worker k on k.id = x.worker
                where x.source = w.source and x.provider = w.provider and x.worker <> $1 and k.dead is null) as others
    from unnest($2::text[], $3::text[], $4::int[], $5::int[], $6::int[]) with ordinality
      as w (source, provider, wanted, running, most, number)
), held as (
  insert into provider_session as s (source, provider, worker, sessions)
  select source, provider, $1::int, greatest(running, least(wanted, most - others))
    from wishes
   order by source, provider
  on conflict (source, provider, worker) do update set sessions = excluded.sessions
  returning source, provider, sessions
)
select h.sessions from wishes w join held h using (source, provider) order by w.number;

-- name: drop_provider_sessions
-- Those of workers that are dead.
with gone as materialized (
  select s.source, s.provider, s.worker
    from provider_session s
    join worker w on w.id = s.worker
   where w.dead is not null
   order by s.source, s.provider, s.worker
     for update of s
)
delete from provider_session s using gone g
 where s.source = g.source and s.provider = g.provider and s.worker = g.worker;
