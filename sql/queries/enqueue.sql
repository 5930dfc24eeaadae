-- Audience → queue, and entries from step to step. mtad/queue/store.py.

-- name: program_by_name
select p.id, p.name, p.kind::text, p.stream_id, p.class, p.status::text, p.version, p.fence, p.why, p.starts,
       p.not_after, p.enqueued_to, p.enqueued, s.version as stream_version, e.version as epoch
  from program p
  join stream s on s.id = p.stream_id
 cross join epoch e
 where p.name = $1;

-- name: programs_by_status
select name from program where status::text = any($1::text[]) order by id;

-- name: ready_to_enqueue
-- Programs whose start has come and whose audience is not, or not all, in the queue.
select name
  from program
 where enqueued is null and (status = 'running' or status = 'scheduled' and starts <= now())
 order by id;

-- name: lock_program
-- Against begin too: what commits under this lock has the last word.
select status::text, enqueued_to from program where id = $1 for update;

-- name: lock_enqueue
-- Against another enqueue and a pause, not against begin.
select status::text, enqueued_to from program where id = $1 for no key update;

-- name: audience_page
-- The next 5,000 subscriptions of stream $1 after contact $2. `in_audience`: the
-- attributes fit $3 (name → allowed values) and no step $5 of program $4 was made.
-- `clear`: nothing speaks against a mail, so no verdict has to be asked for now.
-- `limit 1`, and where the page begins and ends: as joins, all contacts and all that
-- are enrolled were read for every page.
with page as materialized (
  select u.contact_id, u.status, u.break_until
    from subscription u
   where u.stream_id = $1 and u.contact_id > $2
   order by u.contact_id
   limit 5000
)
select u.contact_id, d.site_id, g.state::text,
       not exists (
         select from jsonb_each($3::jsonb) f
          where not coalesce(f.value @> (c.attributes -> f.key), false)
       ) and not exists (
         select from enrolled x
          where x.program_id = $4 and x.node = $5 and x.contact_id = u.contact_id
            and x.contact_id > $2 and x.contact_id <= (select max(contact_id) from page)
       ) as in_audience,
       u.status = 'subscribed' and u.break_until is null and not c.erased and c.merged_into is null
         and coalesce(g.state, 'active') not in ('cooling', 'trying', 'resting')
         and not exists (
           select from suppression x
            where x.key in (c.address_key, '@' || d.name) and x.released is null and x.until > now()
         ) as clear
  from page u
  join lateral (select * from contact where id = u.contact_id limit 1) c on true
  join lateral (select * from domain where id = c.domain_id) d on true
  left join lateral (
    select state from engagement where stream_id = $1 and contact_id = u.contact_id limit 1
  ) g on true
 order by u.contact_id;

-- name: audience_facts
-- Facts (engine/facts.py) of contacts $1 for program $2 at its version $3, message
-- $4, node $5, given up at $6: the columns of `claim` for jobs that are not made.
select 0::bigint, c.id, p.stream_id, p.id, $3::int, $4::int, null::bigint, coalesce(d.site_id, 0),
       p.class, 0::smallint, 0::smallint, now(), $6::timestamptz, $5::text,
       c.address, c.address_key, d.name, c.locale, c.zone, c.attributes, c.erased,
       u.status::text, u.break_until, u.tracking::text,
       (select reason from suppression x
         where x.key = c.address_key and x.scope = 'all' and x.released is null and x.until > now()),
       (select reason from suppression x
         where x.key = c.address_key and x.scope = 'marketing' and x.released is null and x.until > now()),
       g.state::text, g.since, g.cool_until, coalesce(g.cycle, 0),
       false, null::text,
       f.version, p.fence, p.status::text, t.version, e.version
  from unnest($1::bigint[]) as a (id)
  join lateral (select * from contact where id = a.id) c on true
  join lateral (select * from gate where contact_id = c.id) f on true
  join lateral (select * from domain where id = c.domain_id) d on true
  join program p on p.id = $2
  join stream t on t.id = p.stream_id
  left join lateral (select * from subscription where stream_id = p.stream_id and contact_id = c.id) u on true
  left join lateral (select * from engagement where stream_id = p.stream_id and contact_id = c.id) g on true
 cross join epoch e
 order by c.id;

-- name: enqueue
-- Jobs for contacts $1, rising (with sites $2): program $3, version $4, stream $5,
-- message $6, node $7, class $8, due $9, not after $10, slot $11 of the tally. With $12
-- each gets an entry too. Who has this step already gets nothing: the caller holds
-- lock_enqueue, so what a look at the page's range shows is all there is, and costs a
-- twentieth of `on conflict` for each (1.4 µs a mail).
with known as materialized (
  select contact_id
    from enrolled
   where program_id = $3 and node = $7 and contact_id between ($1::bigint[])[1] and ($1)[cardinality($1)]
), made as materialized (
  select contact_id, site_id, nextval('job_id') as job_id
    from (
      select a.contact_id, a.site_id
        from unnest($1, $2::int[]) as a (contact_id, site_id)
       where not exists (select from known k where k.contact_id = a.contact_id)
       order by a.contact_id
    ) a
), noted as (
  insert into enrolled (program_id, node, contact_id, job_id)
  select $3, $7, contact_id, job_id from made
), entered as (
  insert into entry (program_id, version, contact_id, stream_id, node)
  select $3, $4, contact_id, $5, $7 from made where $12 order by contact_id
  on conflict do nothing
  returning id, contact_id
), queued as (
  insert into job (id, contact_id, stream_id, program_id, version, message_id, entry_id, site_id, class, prio,
                   due, not_after)
  select m.job_id, m.contact_id, $5, $3, $4, $6, n.id, m.site_id, $8::smallint, $8::smallint * 2, $9, $10
    from made m
    left join entered n using (contact_id)
   order by m.job_id
), tallied as (
  insert into tally (program_id, slot, key, n)
  select $3, $11, 'enrolled', count(*) from made having count(*) > 0
  on conflict (program_id, slot, key) do update set n = tally.n + excluded.n
)
select count(*) from made;

-- name: leave_out
-- Contacts $1 with reasons $2 are part of the audience and get no mail: a ledger row
-- under an id of the job sequence, no job. $3 program, $4 stream, $5 message, $6 node,
-- $7 slot.
with made as (
  insert into enrolled (program_id, node, contact_id, job_id)
  select $3, $6, a.contact_id, nextval('job_id')
    from unnest($1::bigint[], $2::text[]) as a (contact_id, reason)
   order by a.contact_id
  on conflict do nothing
  returning contact_id, job_id
), written as (
  insert into ledger (job_id, program_id, stream_id, message_id, contact_id, outcome, reason, attempts, doubts,
                      state_at_send, created, ended)
  select m.job_id, $3, $4, $5, m.contact_id, 'skipped', a.reason, 0, 0, g.state, now(), now()
    from made m
    join unnest($1::bigint[], $2::text[]) as a (contact_id, reason) using (contact_id)
    left join engagement g on g.stream_id = $4 and g.contact_id = m.contact_id
), tallied as (
  insert into tally (program_id, slot, key, n)
  select $3, $7, x.key, x.n
    from (
      select 'enrolled' as key, count(*) as n from made having count(*) > 0
      union all
      select 'skipped:' || a.reason, count(*)
        from made m join unnest($1::bigint[], $2::text[]) as a (contact_id, reason) using (contact_id)
       group by a.reason
    ) x
   order by x.key
  on conflict (program_id, slot, key) do update set n = tally.n + excluded.n
)
select count(*) from made;

-- name: started
-- What the start of program $1 has made, whoever made it: all rows of slot $2, and of
-- them those that were left out.
select coalesce(sum(n) filter (where key = 'enrolled'), 0)::bigint as enrolled,
       coalesce(sum(n) filter (where key like 'skipped:%'), 0)::bigint as left_out
  from tally
 where program_id = (select id from program where name = $1) and slot = $2;

-- name: mark_enqueued
-- Contacts up to $2 are in; $3: that was all of them.
update program
   set enqueued_to = $2, enqueued = case when $3 then now() end,
       status = case when status = 'scheduled' then 'running' else status end
 where id = $1;

-- name: analyze_queue
-- The columns that statements ask for; all of them would be three times the work.
analyze job (site_id, prio, due, worker, contact_id, program_id);

-- name: schedule_program
update program set status = 'scheduled', starts = $2, fence = fence + 1, why = null where id = $1;

-- name: hold_jobs
-- Jobs of a paused program leave the due index: worker 0 is nobody.
with jobs as materialized (
  select id from job where program_id = $1 and worker is null order by id for no key update
)
update job set worker = 0 from jobs where job.id = jobs.id returning job.id;

-- name: unhold_jobs
-- Back into the due index; with $2 all of them are due now, so that the gate ends
-- them. Returns the sites that have something due again.
with jobs as materialized (
  select id
    from job
   where program_id = $1 and (worker = 0 or (worker is null and ($2 or reason = 'paused')))
   order by id
     for no key update
), back as (
  update job set worker = null,
                 due = case when $2 or job.reason = 'paused' then least(job.due, now()) else job.due end
    from jobs where job.id = jobs.id
  returning job.site_id
)
select distinct site_id from back where site_id is not null;

-- name: due_entries
-- Entries whose wait is over, of programs that run. Not locked: the caller locks
-- gates first where it ends some. heard: every tracker has brought in what it heard
-- up to then, so that silence may be concluded.
select n.id, n.program_id, n.version, n.contact_id, n.stream_id, n.node, s.version as stream_version, d.site_id,
       p.class, p.not_after,
       n.due <= coalesce((select min(ingested_until) from worker where dead is null), '-infinity') as heard
  from entry n
  join program p on p.id = n.program_id
  join stream s on s.id = n.stream_id
  join lateral (select domain_id from contact where id = n.contact_id limit 1) c on true
  join lateral (select site_id from domain where id = c.domain_id limit 1) d on true
 where n.ended is null and n.due <= now() and p.status = 'running'
 order by n.due
 limit 2000;

-- name: lock_gates
select contact_id from gate where contact_id = any($1::bigint[]) order by contact_id for no key update;

-- name: next_mails
-- Make the next mail of entries $1 (at nodes $2 with messages $3, sites $4), $5 when
-- each is given up, $6 slot. An entry that ended meanwhile gets none.
with x as materialized (
  select * from unnest($1::bigint[], $2::text[], $3::int[], $4::int[], $5::timestamptz[])
    as x (entry_id, node, message_id, site_id, not_after)
), entries as materialized (
  select n.*
    from entry n
   where n.id in (select entry_id from x) and n.ended is null and n.due is not null
   order by n.id
     for no key update
), made as (
  insert into enrolled (program_id, node, contact_id, job_id)
  select n.program_id, x.node, n.contact_id, nextval('job_id')
    from entries n
    join x on x.entry_id = n.id
   order by n.program_id, x.node, n.contact_id
  on conflict do nothing
  returning program_id, node, contact_id, job_id
), queued as (
  insert into job (id, contact_id, stream_id, program_id, version, message_id, entry_id, site_id, class, prio,
                   due, not_after)
  select m.job_id, n.contact_id, n.stream_id, n.program_id, n.version, x.message_id, n.id, x.site_id,
         p.class, p.class * 2, now(), x.not_after
    from made m
    join entries n on n.program_id = m.program_id and n.contact_id = m.contact_id
    join x on x.entry_id = n.id
    join program p on p.id = n.program_id
   order by m.job_id
), waiting as (
  update entry set due = null from entries where entry.id = entries.id
), tallied as (
  insert into tally (program_id, slot, key, n)
  select program_id, $6, 'enrolled', count(*) from made group by program_id order by program_id
  on conflict (program_id, slot, key) do update set n = tally.n + excluded.n
)
select count(*) from made;

-- name: end_entries
-- Entries $1 end because of $2.
with x as materialized (
  select * from unnest($1::bigint[], $2::text[]) as x (entry_id, why)
), entries as materialized (
  select id from entry where id in (select entry_id from x) and ended is null order by id for no key update
)
update entry set ended = now(), due = null, why = x.why
  from entries
  join x on x.entry_id = entries.id
 where entry.id = entries.id
returning entry.id;

-- name: finish_programs
-- Programs with nothing left to do are done, transactional ones never.
with over as materialized (
  select p.id
    from program p
   where p.status = 'running' and p.enqueued is not null and p.class > 0
     and not exists (select from job j where j.program_id = p.id)
     and not exists (select from entry n where n.program_id = p.id and n.ended is null)
   order by p.id
     for no key update
)
update program set status = 'done' from over where program.id = over.id returning program.name;

-- name: content_faults
-- Running programs whose mails fail for one content reason in more than the share
-- and the number that the policy of their stream allows.
select p.id, p.name, substr(f.key, 9) as reason, f.n
  from program p
  join stream t on t.id = p.stream_id
  join stream_version v on v.stream_id = t.id and v.version = t.version
  join lateral (select sum(n) as n from tally where program_id = p.id and key = 'enrolled') e on true
  join lateral (
    select key, sum(n)::bigint as n
      from tally
     where program_id = p.id and (key like 'skipped:missing\_value:%' or key like 'skipped:content:%')
     group by key
     order by sum(n) desc
     limit 1
  ) f on true
 where p.status = 'running'
   and f.n >= (v.definition -> 'policy' ->> 'missing_least')::int
   and f.n > (v.definition -> 'policy' ->> 'missing_limit')::float8 * e.n;
