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
   where j.worker is null and j.due > now()
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
