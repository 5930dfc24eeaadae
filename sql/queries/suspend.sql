-- What is held back: lanes, sites, sources, domains, campaigns. mtad/queue/suspensions.py.
-- Lanes carry what concerns them in `suspended_until`, which begin reads; of domains and
-- campaigns the gate hears by the epoch.

-- name: suspend
-- $1 kind, $2 key, held until $3 (null: until it is lifted) because $4, by $5. Where
-- the same hand holds it already the later end wins; what had lapsed begins anew.
insert into suspension as s (kind, key, until, reason, made_by)
values ($1, $2, coalesce($3::timestamptz, 'infinity'), $4, $5)
on conflict (kind, key, made_by) where lifted is null do update
  set until = case when s.until > now() then greatest(s.until, excluded.until) else excluded.until end,
      made = case when s.until > now() then s.made else now() end,
      reason = excluded.reason
returning id, kind, key, nullif(until, 'infinity'), reason, made_by, made;

-- name: suspensions
-- What is held now, oldest first.
select id, kind, key, nullif(until, 'infinity'), reason, made_by, made
  from suspension
 where lifted is null and until > now()
 order by made, id;

-- name: lift
-- Close what is open and in force for kind $1 and key $2, or with id $3 (the others null); by $4.
with open as materialized (
  select id
    from suspension
   where lifted is null and until > now() and ((kind = $1 and key = $2) or id = $3::bigint)
   order by id
     for no key update
)
update suspension s set lifted = now(), lifted_by = $4
  from open
 where s.id = open.id
returning s.id, s.kind, s.key, nullif(s.until, 'infinity'), s.reason, s.made_by, s.made;

-- name: wake_suspended
-- Mail that waits because of campaigns $1 or domains $2 is due for a look now. Returns the sites.
with jobs as materialized (
  select j.id
    from job j
   where j.worker is null and not j.parked and j.due > now()
     and (j.reason = 'suspended:campaign' and j.program_id in (select id from program where name = any($1::text[]))
          or j.reason = 'suspended:domain'
             and j.site_id in (select site_id from domain where name = any($2::text[]))
             and exists (select from contact c join domain d on d.id = c.domain_id
                          where c.id = j.contact_id and d.name = any($2::text[])))
   order by j.id
     for no key update of j
), woken as (
  update job set due = now() from jobs where job.id = jobs.id returning job.site_id
)
select distinct site_id from woken where site_id is not null order by site_id;

-- name: suspend_lanes
-- Have each lane's `suspended_until` say what the open suspensions say. Sites whose lane
-- opened are due for a look at once.
with wanted as materialized (
  select l.id, max(x.until) as until
    from lane l
    join site s on s.id = l.site_id
    join (select kind, key, until from suspension where lifted is null and until > now()) x
      on (x.kind = 'source' and x.key = l.source) or (x.kind = 'site' and x.key = s.name)
         or (x.kind = 'lane' and x.key = l.source || '/' || s.name)
   group by l.id
), stale as materialized (
  select l.id, coalesce(w.until, '-infinity') as until
    from lane l
    left join wanted w on w.id = l.id
   where case when w.id is null then l.suspended_until > now() else l.suspended_until <> w.until end
   order by l.id
     for no key update of l
), changed as (
  update lane set suspended_until = stale.until from stale where lane.id = stale.id
  returning lane.site_id, lane.suspended_until
)
select distinct site_id from changed where suspended_until <= now() order by site_id;

-- name: expire_held
-- Waiting jobs that are too old, of sites all of whose lanes are closed or suspended for a
-- minute or more, where nobody claims them: to the site named $1, as in label_overdue.
with closed as materialized (
  select site_id
    from lane
   group by site_id
  having min(greatest(closed_until, suspended_until)) > now() + interval '1 min'
), jobs as materialized (
  select j.id
    from job j
   where j.site_id in (select site_id from closed) and j.worker is null and not j.parked and j.not_after < now() - interval '10 min'
   order by j.id
   limit 10000
     for no key update of j
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

-- ── Limits for a while ──────────────────────────────────────────────────────

-- name: limit_lane
-- Lane $1: knob $2 at most $3, as numbers $4 and $5, until $6 because $7, by $8. The same
-- again by the same hand: the later end.
insert into lane_limit as x (lane_id, knob, value, most, burst, until, reason, made_by)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (lane_id, knob, value, made_by) do update
  set until = greatest(x.until, excluded.until), reason = excluded.reason,
      made = case when x.until > now() then x.made else now() end
returning id;

-- name: lane_limits
-- What is set now, oldest first.
select x.id, x.lane_id, l.source || '/' || s.name, x.knob, x.value, x.until, x.reason, x.made_by, x.made
  from lane_limit x
  join lane l on l.id = x.lane_id
  join site s on s.id = l.site_id
 where x.until > now()
 order by x.made, x.id;

-- name: unlimit
-- Take back limits $1. Returns their lanes.
delete from lane_limit where id = any($1::bigint[]) returning id, lane_id;

-- name: lapsed_limits
-- Take back limits whose time is over. Returns their lanes.
delete from lane_limit where until <= now() returning lane_id;

-- name: apply_limits
-- Have lanes $1 say what their limits allow now. A limit of sessions is one for all workers.
with lanes as materialized (
  select id from lane where id = any($1::int[]) order by id for no key update
), allowed as materialized (
  select x.id,
         min(m.most) filter (where m.knob = 'max_message_rate') as rate,
         min(m.burst) filter (where m.knob = 'max_message_rate') as burst,
         min(m.most) filter (where m.knob = 'connection_limit')::int as sessions
    from lanes x
    left join lane_limit m on m.lane_id = x.id and m.until > now()
   group by x.id
)
update lane set most_rate = a.rate, most_burst = a.burst, most_sessions = a.sessions
  from allowed a
 where lane.id = a.id;

-- name: limits_in_force
-- What is not in the lane's row for begin to see, for worker $1, which asks every second: how
-- many of its sessions may stay, after those of the workers before it, and mails on each.
select m.lane_id,
       greatest(0, m.sessions - (select coalesce(sum(x.sessions), 0)
                                   from lane_session x
                                   join worker k on k.id = x.worker
                                  where x.lane_id = m.lane_id and x.worker < $1 and k.dead is null))::int,
       m.deliveries
  from (select lane_id, (min(most) filter (where knob = 'connection_limit'))::int as sessions,
               (min(most) filter (where knob = 'max_deliveries_per_connection'))::int as deliveries
          from lane_limit
         where until > now() and knob in ('connection_limit', 'max_deliveries_per_connection')
         group by lane_id) m;

-- ── Replies that rules count ────────────────────────────────────────────────

-- name: one_counter
-- Until the end of this transaction nobody else counts: of two workers that each bring
-- half of a threshold, the second must see the first. Alone, so that the next statement sees it.
select pg_advisory_xact_lock(hashtext('reply_count'));

-- name: count_replies
-- Rules $1 on keys $2 were met $3 times; they count within $4 seconds. Returns for each, in
-- that order, how often within that time, and now.
with given as materialized (
  select * from unnest($1::text[], $2::text[], $3::int[], $4::float8[]) with ordinality g (rule, key, n, span, place)
), added as (
  insert into reply_count (rule, key, n) select rule, key, n from given
)
select g.n + coalesce((select sum(c.n)
                         from reply_count c
                        where c.rule = g.rule and c.key = g.key and c.at > now() - g.span * interval '1 s'), 0)::int,
       now()
  from given g
 order by g.place;

-- name: lock_lanes_or_all
-- Lanes $1, or with $2 all.
select id from lane where $2::boolean or id = any($1::int[]) order by id for no key update;

-- name: forget_replies
-- Rules $1 on keys $2 have had their effect and count anew.
delete from reply_count c
 using unnest($1::text[], $2::text[]) g (rule, key)
 where c.rule = g.rule and c.key = g.key;

-- name: forget_old_replies
delete from reply_count where at < now() - interval '1 day';

-- ── Campaigns that bounce ───────────────────────────────────────────────────

-- name: bouncing_campaigns
-- Running programs, transactional ones apart, of whose mails at least $2 ended since their
-- mark and more than the share $1 of these bounced; each counts anew from here. So do those
-- whose mark is an hour old. A program without a mark counts from its first mail.
with counts as materialized (
  select p.id, p.name, sum(t.n)::bigint as ended, coalesce(sum(t.n) filter (where t.key = 'bounced'), 0)::bigint as bounced
    from program p
    join tally t on t.program_id = p.id and t.key in ('delivered', 'bounced')
   where p.status = 'running' and p.class > 0
   group by p.id
), judged as materialized (
  select c.*, m.at, c.ended - coalesce(m.ended, 0) as ended_since, c.bounced - coalesce(m.bounced, 0) as bounced_since,
         c.ended - coalesce(m.ended, 0) >= $2
           and c.bounced - coalesce(m.bounced, 0) > $1::float8 * (c.ended - coalesce(m.ended, 0)) as bounces
    from counts c
    left join bounce_mark m on m.program_id = c.id
), marked as (
  insert into bounce_mark as m (program_id, ended, bounced)
  select id, case when bounces or at is not null then ended else 0 end,
         case when bounces or at is not null then bounced else 0 end
    from judged
   where bounces or at is null or at < now() - interval '1 h'
   order by id
  on conflict (program_id) do update set at = now(), ended = excluded.ended, bounced = excluded.bounced
)
select name, ended_since, bounced_since from judged where bounces order by name;
