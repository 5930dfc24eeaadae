-- How the audience of a stream breathes: `mtad audience`, and the preview of a change of
-- its rules. Reads only; one read-only transaction of isolation repeatable read.

-- name: audience_sizes
-- The people of stream $1 by state, as far as they may be mailed; else by what forbids it.
-- The second number: of them those whose tracking mode says that elasticity will not act.
-- Plan: one pass over the stream's subscriptions and engagements, hashed; suppressed
-- people are looked up from the suppressions.
with suppressed as materialized (
  select c.id as contact_id
    from suppression x join contact c on c.address_key = x.key
   where x.released is null and x.until > now()
  union
  select c.id
    from suppression x
    join domain d on d.name = substr(x.key, 2)
    join contact c on c.domain_id = d.id
   where x.released is null and x.until > now() and x.key like '@%'
)
select case when u.status <> 'subscribed' then u.status::text
            when x.contact_id is not null then 'suppressed'
            when g.contact_id is null or (g.state = 'active' and g.first_sent is null) then 'new'
            else g.state::text end as state,
       count(*),
       count(*) filter (where coalesce(u.tracking::text, v.definition ->> 'tracking') <> 'full')
  from stream s
  join stream_version v on v.stream_id = s.id and v.version = s.version
  join subscription u on u.stream_id = s.id
  left join engagement g on g.stream_id = s.id and g.contact_id = u.contact_id
  left join suppressed x on x.contact_id = u.contact_id
 where s.id = $1
 group by 1;

-- name: audience_moves
-- What changed the sizes of stream $1 within $2 spans of $3 seconds up to $4: how many
-- people came from where to where, why, and how many whole spans ago. Transitions that were
-- taken back are left out; 'new' is left with the first delivery, which is not logged. Who
-- unsubscribed, or was suppressed, went to 'left' from the state of now, which is kept;
-- who was subscribed came from 'outside'.
-- Plan: the newest transitions by transition_made_idx; a fact is never older than the span
-- in which it was written down, so `made` bounds `at`.
with span as (
  select $4::timestamptz - make_interval(secs => $2::int * $3::float8) as since
), moved as materialized (
  select t.id, t.contact_id, coalesce(t.from_state::text, 'new') as from_state, t.to_state::text, t.why, t.at
    from transition t, span
   where t.stream_id = $1 and t.made >= span.since and t.takes_back is null and t.at >= span.since
), back as materialized (
  select t.takes_back as id
    from transition t, span
   where t.stream_id = $1 and t.made >= span.since and t.takes_back is not null
), standing as (
  select contact_id, from_state, to_state, why, at from moved where id not in (select id from back)
), suppressed as materialized (
  select contact_id, min(created) as at
    from (select c.id as contact_id, x.created
            from suppression x join contact c on c.address_key = x.key
           where x.released is null and x.until > now()
          union all
          select c.id, x.created
            from suppression x
            join domain d on d.name = substr(x.key, 2)
            join contact c on c.domain_id = d.id
           where x.released is null and x.until > now() and x.key like '@%') y
   group by contact_id
), person as (
  select u.contact_id, u.status, u.changed, u.changed_by, g.first_sent,
         case when g.contact_id is null or (g.state = 'active' and g.first_sent is null) then 'new'
              else g.state::text end as state
    from subscription u
    left join engagement g on g.stream_id = $1 and g.contact_id = u.contact_id
   where u.stream_id = $1
), first as (
  select distinct on (t.contact_id) t.contact_id, t.from_state
    from standing t join person p on p.contact_id = t.contact_id
   where p.changed >= (select since from span) and t.at >= p.changed
   order by t.contact_id, t.at
), change as (
  select t.from_state, t.to_state, t.why, t.at
    from standing t join subscription u on u.stream_id = $1 and u.contact_id = t.contact_id
  union all
  select 'new', 'active', 'delivered', p.first_sent
    from person p, span where p.first_sent >= span.since
  union all
  select p.state, 'left', 'unsubscribed', p.changed
    from person p, span where p.status = 'unsubscribed' and p.changed >= span.since
  union all
  select p.state, 'left', 'suppressed', x.at
    from suppressed x join person p on p.contact_id = x.contact_id, span
   where p.status = 'subscribed' and x.at >= span.since
  union all
  select 'outside',
         case when coalesce(f.from_state, p.state) = 'active' and p.first_sent >= p.changed then 'new'
              else coalesce(f.from_state, p.state) end,
         'subscribed', p.changed
    from person p cross join span left join first f on f.contact_id = p.contact_id
   where p.status = 'subscribed' and p.changed >= span.since
)
select floor(extract(epoch from $4::timestamptz - at) / $3::float8)::int as ago, from_state, to_state, why, count(*)
  from change
 where at <= $4
 group by 1, 2, 3, 4;

-- name: audience_returns
-- When the cool-downs of stream $1 end that end within $2 spans of $3 seconds: how many in
-- which of these spans; -1: they are over. Who may not be mailed is not counted.
-- Plan: engagement_cooling_idx.
select greatest(-1, floor(extract(epoch from g.cool_until - now()) / $3::float8))::int, count(*)
  from engagement g
  join subscription u on u.stream_id = g.stream_id and u.contact_id = g.contact_id and u.status = 'subscribed'
 where g.stream_id = $1 and g.state = 'cooling'
   and g.cool_until < now() + make_interval(secs => $2::int * $3::float8)
 group by 1 order by 1;

-- name: audience_reactivations
-- The reactivation programs of stream $1 that run.
select name from program where stream_id = $1 and kind = 'reactivation' and status = 'running' order by name;

-- ── A change of the rules, engine/revision.py ───────────────────────────────

-- name: people_of_stream
-- The next 5,000 rows of stream $1 behind contact $2 on which rules act: who is mailed, or
-- cools down, if there is permission.
select e.contact_id, e.state::text, e.since, e.score, e.round_from, e.last_sign, e.first_sent, e.cycle, e.cool_until,
       e.window_until, e.veiled, e.ignored, e.unclear, greatest(e.told, '0001-01-01 UTC'), e.wake_at
  from engagement e
  join subscription u on u.stream_id = e.stream_id and u.contact_id = e.contact_id and u.status = 'subscribed'
 where e.stream_id = $1 and e.contact_id > $2
   and (e.state = 'cooling' or e.state in ('active', 'engaged', 'reactivated') and e.first_sent is not null)
 order by e.contact_id
 limit 5000;

-- name: lock_people
-- The same, with permission or without, locked.
select e.contact_id, e.state::text, e.since, e.score, e.round_from, e.last_sign, e.first_sent, e.cycle, e.cool_until,
       e.window_until, e.veiled, e.ignored, e.unclear, greatest(e.told, '0001-01-01 UTC'), e.wake_at
  from engagement e
 where e.stream_id = $1 and e.contact_id > $2
   and (e.state = 'cooling' or e.state in ('active', 'engaged', 'reactivated') and e.first_sent is not null)
 order by e.contact_id
 limit 5000
   for no key update;

-- name: retime_people
-- Rows of stream $1 and contacts $2, locked already: the sweep comes round at $3, a
-- cool-down is over at $4.
update engagement
   set wake_at = a.wake_at, cool_until = a.cool_until
  from unnest($2::bigint[], $3::timestamptz[], $4::timestamptz[]) as a (contact_id, wake_at, cool_until)
 where engagement.stream_id = $1 and engagement.contact_id = a.contact_id;

-- name: lock_waiting_mail
-- The next 5,000 mails of stream $1 behind job $2 that wait for a cap, for the end of quiet
-- hours or for a sending day, locked, with what their time is made from.
-- Plan: by the key of the queue, which is read once in all.
with jobs as materialized (
  select id, contact_id, due, not_after, slot
    from job
   where id > $2 and stream_id = $1 and begun is null and due > now()
     and (reason like 'cap:%' or reason in ('quiet_hours', 'sending_day'))
   order by id
   limit 5000
     for no key update
)
select j.id, j.due, j.not_after, j.slot, c.zone, c.attributes, g.sent, g.sent_on
  from jobs j
  join lateral (select zone, attributes from contact where id = j.contact_id limit 1) c on true
  join lateral (select sent, sent_on from gate where contact_id = j.contact_id limit 1) g on true
 order by j.id;

-- name: retime_mail
-- Jobs $1, locked already, are due at $2.
update job set due = a.due from unnest($1::bigint[], $2::timestamptz[]) as a (id, due) where job.id = a.id;
