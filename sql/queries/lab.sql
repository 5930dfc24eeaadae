-- What the demo watches while it runs, and what it compares at the end.
-- Nothing here writes.

-- name: person
-- State, score and permission of address $1 on stream $2; state null: no mail yet.
select c.id, case when e.first_sent is not null or e.state <> 'active' then e.state::text end,
       coalesce(e.score, 0), s.status::text
  from contact c
  left join stream t on t.name = $2
  left join engagement e on e.contact_id = c.id and e.stream_id = t.id
  left join subscription s on s.contact_id = c.id and s.stream_id = t.id
 where c.address_key = $1;

-- name: story_of_person
-- What contact $1 did and what came of it, newest first.
select at, text
  from (
    select a.at, a.kind || ' of ' || m.node || ': +' || a.points as text
      from answer a
      join ledger l on l.job_id = a.job_id
      join message m on m.id = l.message_id
     where a.contact_id = $1
    union all
    select t.at, coalesce(t.from_state::text, 'new') || ' → ' || t.to_state || ' (' || t.why || ')'
      from transition t
     where t.contact_id = $1
    union all
    select l.ended, m.node || ' not sent: ' || l.reason
      from ledger l
      join message m on m.id = l.message_id
     where l.contact_id = $1 and l.outcome = 'skipped'
  ) told
 order by at desc
 limit 12;

-- name: states
-- How many contacts of stream $1 are in which state; those who may not be mailed apart.
select case when s.status <> 'subscribed' then 'left'
            when x.bounced then 'bounced'
            when x.key is not null then 'suppressed'
            when e.state is null or (e.state = 'active' and e.first_sent is null) then 'new'
            when e.state in ('cooling', 'trying') then 'inactive'
            else e.state::text end as state, count(*)
  from subscription s
  join stream t on t.id = s.stream_id and t.name = $1
  join contact c on c.id = s.contact_id
  left join engagement e on e.contact_id = s.contact_id and e.stream_id = s.stream_id
  left join (
    select key, bool_and(reason = 'hard_bounce') as bounced
      from suppression
     where released is null and scope = 'all'
     group by key
  ) x on x.key = c.address_key
 group by 1;

-- name: mails
-- For each mail: to how many it was enrolled, how many of those were delivered, how many ended.
select m.node, count(*), count(*) filter (where l.outcome = 'delivered'), count(l.job_id)
  from enrolled e
  join program p on p.id = e.program_id
  join message m on m.program_id = p.id and m.version = p.version and m.node = e.node
  left join ledger l on l.job_id = e.job_id
 group by m.id
 order by m.id;

-- name: running
-- What of program $1 is not over: queued jobs and running entries.
select (select count(*) from job j where j.program_id = p.id)
       + (select count(*) from entry e where e.program_id = p.id and e.ended is null)
  from program p
 where p.name = $1;

-- name: unsettled
-- Hits that have not been judged or counted yet.
select count(*) from pending;

-- name: workers
-- The workers that live, each with the mails that it has between begin and settle.
select w.id, w.pid, count(j.id)
  from worker w
  left join (
    select distinct j.id, l.worker
      from lease l
     cross join unnest(l.jobs) u (id)
     cross join lateral (select id from job where id = u.id and worker = l.worker and begun is not null limit 1) j
  ) j on j.worker = w.id
 where w.dead is null
 group by w.id
 order by w.id;

-- name: workers_ever
select count(*) from worker;

-- name: withdrawn
-- The first mail of program $1 that waited in the queue and ended with reason $2: whose it
-- was, and how many mails of the program were queued at that moment.
select c.address, coalesce(c.attributes ->> 'first_name', ''), m.node, l.reason,
       (select count(*) from ledger o where o.program_id = l.program_id and o.created < l.ended and o.ended > l.ended)
       + (select count(*) from job j where j.program_id = l.program_id and j.created < l.ended)
  from ledger l
  join program p on p.id = l.program_id and p.name = $1
  join contact c on c.id = l.contact_id
  join message m on m.id = l.message_id
 where l.outcome = 'skipped' and l.reason = $2
 order by l.ended
 limit 1;

-- name: ended
-- Ledger rows of mails that were delivered or once in doubt.
select job_id, outcome::text, doubts from ledger where outcome = 'delivered' or doubts > 0;

-- name: hits
-- Judged hits by class, and the points of those whose event earned some.
select e.class::text, count(*), coalesce(sum(a.points), 0)
  from event e
  left join answer a on a.job_id = e.job_id and a.event_id = e.id
 where e.class is not null
 group by e.class;

-- name: points_of
-- All points that the addresses $1 ever earned, and the highest score among them.
select coalesce(sum(e.score), 0)
       + coalesce((select sum(a.points) from answer a join contact o on o.id = a.contact_id
                    where o.address_key = any($1::text[])), 0)
  from contact c
  left join engagement e on e.contact_id = c.id
 where c.address_key = any($1::text[]);

-- name: got_by_state
-- To whom mail $1 was delivered: their states at the send.
select coalesce(l.state_at_send::text, 'new'), count(*)
  from ledger l
  join message m on m.id = l.message_id
 where m.node = $1 and l.outcome = 'delivered'
 group by 1;

-- name: cooling
-- How many of stream $1 are not to be asked again yet.
select count(*)
  from engagement e join stream t on t.id = e.stream_id
 where t.name = $1 and e.state = 'cooling' and e.cool_until > now();

-- name: read
-- How many mails of programs $1 were opened or clicked by a person.
select count(distinct a.job_id)
  from answer a
  join ledger l on l.job_id = a.job_id
  join program p on p.id = l.program_id
 where p.name = any($1::text[]);

-- name: deadlocks
-- Counted by the server since the database was made.
select deadlocks from pg_stat_database where datname = current_database();
