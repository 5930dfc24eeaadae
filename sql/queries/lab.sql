-- What the demo watches while it runs, and what it compares at the end.
-- Nothing here writes.

-- name: person
-- State, score and permission of one address on stream $2; state null: no mail yet.
select c.id, e.state::text, coalesce(e.score, 0), s.status::text
from contact c
left join stream t on t.name = $2
left join engagement e on e.contact_id = c.id and e.stream_id = t.id
left join subscription s on s.contact_id = c.id and s.stream_id = t.id
where c.address_key = $1;

-- name: story_of_person
-- What contact $1 did and what came of it, newest first.
select at, text from (
  select a.at, a.kind || ' of ' || m.node || ': +' || a.points as text
  from answer a
  join ledger l on l.job_id = a.job_id
  join message m on m.id = l.message_id
  where a.contact_id = $1
  union all
  select t.at, coalesce(t.from_state::text, 'new') || ' → ' || t.to_state || ' (' || t.why || ')'
  from transition t where t.contact_id = $1
  union all
  select l.ended, m.node || ' not sent: ' || l.reason
  from ledger l join message m on m.id = l.message_id
  where l.contact_id = $1 and l.outcome = 'skipped'
) told order by at desc limit 12;

-- name: states
-- How many contacts of stream $1 are in which state; 'left' has no permission any more.
select case when s.status <> 'subscribed' then 'left'
            when x.id is not null then 'suppressed'
            when e.state is null then 'new'
            when e.state in ('cooling', 'trying', 'resting') then 'inactive'
            else e.state::text end as state, count(*)
from subscription s
join stream t on t.id = s.stream_id and t.name = $1
join contact c on c.id = s.contact_id
left join engagement e on e.contact_id = s.contact_id and e.stream_id = s.stream_id
left join suppression x on x.key = c.address_key and x.released is null and x.scope = 'all'
group by 1;

-- name: queued
-- Jobs of program $1 that wait or are on their way.
select count(*) from job j join program p on p.id = j.program_id where p.name = $1;

-- name: open_entries
-- Entries of program $1 that still run.
select count(*) from entry e join program p on p.id = e.program_id where p.name = $1 and e.ended is null;

-- name: enqueued
-- Whether all of the audience of program $1 is in.
select enqueued is not null from program where name = $1;

-- name: workers
-- The workers that live, with what each has in its hands.
select w.id, w.pid, count(j.id) filter (where j.begun is not null)
from worker w left join job j on j.worker = w.id
where w.dead is null group by w.id order by w.id;

-- name: withdrawn
-- The first mails of program $1 that were taken out of the queue with a reason like $2:
-- whose, which, why, and how many jobs were queued at that time (by their times in the ledger).
select c.address, c.attributes, m.node, l.reason, l.ended,
       (select count(*) from ledger o where o.program_id = l.program_id
        and o.created < l.ended and o.ended > l.ended)
       + (select count(*) from job j where j.program_id = l.program_id and j.created < l.ended)
from ledger l
join program p on p.id = l.program_id and p.name = $1
join contact c on c.id = l.contact_id
join message m on m.id = l.message_id
where l.outcome = 'skipped' and l.reason like $2
order by l.ended limit 1;

-- name: copies_of_ledger
-- What the ledger says was delivered, by program and address.
select p.name, m.node, c.address_key, l.doubts
from ledger l
join program p on p.id = l.program_id
join message m on m.id = l.message_id
join contact c on c.id = l.contact_id
where l.outcome = 'delivered';

-- name: doubted
-- Mails of which some attempt ended without an answer to the final dot, given up or not.
select p.name, m.node, c.address_key, l.doubts
from ledger l
join program p on p.id = l.program_id
join message m on m.id = l.message_id
join contact c on c.id = l.contact_id
where l.doubts > 0;

-- name: hits
-- Judged hits by class, with the points that their answers earned.
select e.class::text, count(*), coalesce(sum(a.points), 0)
from event e left join answer a on a.event_id = e.id
where e.class is not null group by e.class;

-- name: scores_of
-- The highest score, and all points ever earned, among the addresses $1.
select coalesce(max(e.score), 0), coalesce((
  select sum(a.points) from answer a join contact c on c.id = a.contact_id where c.address_key = any($1)
), 0)
from engagement e join contact c on c.id = e.contact_id
where c.address_key = any($1);

-- name: deadlocks
-- Counted by the server since the database was made.
select deadlocks from pg_stat_database where datname = current_database();
