-- Questions that operators ask. Nothing here writes or locks; each answer is made of
-- a few of these in one read-only transaction of isolation repeatable read, so its
-- numbers are of one moment.

-- name: program_by_name
-- The program $1 with the definition that new entries get.
select p.id, p.name, p.kind::text, s.id, s.name, p.status::text, p.why, p.version, p.created, p.starts,
       p.enqueued, clock_timestamp()
  from program p join stream s on s.id = p.stream_id
 where p.name = $1;

-- name: program_names
-- Every program, for the message that a name is unknown.
select name from program order by name;

-- name: audit_jobs
-- Every trace of program $1 in enrolled, ledger and queue, brought together by job: what
-- is right has one enrolled row and either a ledger row or a job, and is counted by its
-- fate; the rest is counted by what is wrong, with the first 20 ids.
-- Plan: one pass over each of the three and one hash; the ledger is read whole, because
-- a row that should not be there can be anywhere in it.
with trace as (
  select job_id, 1 as enrolled, 0 as ledger, 0 as queued, null::text as fate
    from enrolled where program_id = $1
  union all
  select job_id, 0, 1, 0, case outcome when 'skipped' then 'skipped:' || reason else outcome::text end
    from ledger where program_id = $1
  union all
  select id, 0, 0, 1, case when doubts > 0 then 'pending:in_doubt'
                           when begun is not null then 'pending:begun'
                           else 'pending:waiting' end
    from job where program_id = $1
), one as (
  select job_id, sum(enrolled) as enrolled, sum(ledger) as ledger, sum(queued) as queued, max(fate) as fate
    from trace group by job_id
), judged as (
  select job_id, enrolled,
         case when enrolled = 1 and ledger + queued = 1 then fate
              when enrolled > 1 then 'hole:shared'
              when ledger + queued > 1 then 'hole:both'
              when enrolled = 1 then 'hole:lost'
              when ledger = 1 then 'hole:ledger_only'
              else 'hole:queued_only' end as fate
    from one
)
select fate, sum(enrolled)::bigint, count(*),
       coalesce((array_agg(job_id order by job_id) filter (where fate like 'hole:%'))[1:20], '{}')
  from judged group by fate order by fate;

-- name: audit_entries
-- The entries of program $1 by what became of them. One that runs must be due or have a
-- job queued, else nobody will ever move it; one that ended must say why.
with judged as (
  select e.id,
         case when e.ended is not null then coalesce('ended:' || nullif(e.why, ''), 'hole:unexplained')
              when e.due is null and q.entry_id is null then 'hole:stranded'
              else 'running' end as fate
    from entry e
    left join (select distinct entry_id from job where program_id = $1 and entry_id is not null) q
           on q.entry_id = e.id
   where e.program_id = $1
)
select fate, count(*), coalesce((array_agg(id order by id) filter (where fate like 'hole:%'))[1:20], '{}')
  from judged group by fate order by fate;

-- name: tally_of_program
-- The counters of program $1, summed over the workers' slots.
select key, sum(n)::bigint from tally where program_id = $1 group by key order by key;

-- name: queue_of_program
-- What of program $1 is queued: waiting for its first attempt, waiting for another one,
-- begun, in doubt; and the entries that still run.
select count(*) filter (where doubts = 0 and begun is null and attempt = 0),
       count(*) filter (where doubts = 0 and begun is null and attempt > 0),
       count(*) filter (where doubts = 0 and begun is not null),
       count(*) filter (where doubts > 0),
       (select count(*) from entry where program_id = $1 and ended is null)
  from job where program_id = $1;
