-- Audience → queue: mtad/queue/programs.py.

-- name: program_by_name
select p.id, p.name, p.kind::text, p.stream_id, p.class, p.rank, p.status::text, p.version, p.fence, p.why, p.starts,
       p.not_after, p.enqueued_to, p.enqueued, p.day, s.version as stream_version, e.version as epoch
  from program p
  join stream s on s.id = p.stream_id
 cross join epoch e
 where p.name = $1;

-- name: programs_by_status
select name from program where status::text = any($1::text[]) order by id;

-- name: ready_to_enqueue
-- Programs whose start has come and whose audience is not, or not all, in the queue. One
-- with a date waits for its first day.
select p.name
  from program p
  join program_version v on v.program_id = p.id and v.version = p.version
 where p.enqueued is null and (p.status = 'running' or p.status = 'scheduled' and p.starts <= now())
   and (p.day is not null or coalesce(jsonb_typeof(v.definition -> 'yearly'), 'null') = 'null')
 order by p.id;

-- name: lock_program
-- Against begin too: what commits under this lock has the last word.
select status::text, enqueued_to from program where id = $1 for update;

-- name: lock_enqueue
-- Against another enqueue and a pause, not against begin.
select status::text, version, enqueued_to, next_slot, coalesce(open_to, starts - interval '1 h'), open_contact
  from program
 where id = $1
   for no key update;

-- name: audience_page
-- The next 5,000 subscriptions of stream $1 after contact $2. `in_audience`: the
-- attributes fit $3 (name → allowed values) and no step $5 of program $4 was made in
-- round $6; with $7 the cool-down is over. With $8 only of those who have one of these
-- days in an attribute ('birthday 05-12').
-- `clear`: nothing speaks against a mail, so no verdict has to be asked for now.
-- `limit 1`, and where the page begins and ends: as joins, all contacts and all that
-- are enrolled were read for every page; whose day it is are few over a wide range, and
-- looked up one by one.
-- Plan: the key of subscription; or contact once, its attributes looked through as text
-- first: 1.5 s of Postgres for a million people, once a day.
with page as materialized (
  (select u.contact_id, u.status, u.break_until
     from subscription u
    where $8::text[] is null and u.stream_id = $1 and u.contact_id > $2
    order by u.contact_id
    limit 5000)
   union all
  (select c.id, u.status, u.break_until
     from contact c
     join lateral (
       select status, break_until from subscription where stream_id = $1 and contact_id = c.id limit 1) u on true
    where $8 is not null and c.id > $2
      and c.attributes::text like any (array(select '%-' || right(day, 5) || '%' from unnest($8) as d (day)))
      and days_of_year(c.attributes) && $8
    order by c.id
    limit 5000)
)
select u.contact_id, d.site_id, g.state::text,
       not exists (
         select from jsonb_each($3::jsonb) f
          where not coalesce(f.value @> (c.attributes -> f.key), false)
       ) and case when $8 is null then not exists (
         select from enrolled x
          where x.program_id = $4 and x.node = $5 and x.contact_id = u.contact_id and x.round = $6
            and x.contact_id > $2 and x.contact_id <= (select max(contact_id) from page)
       ) else n.job_id is null end and (not $7 or coalesce(g.state = 'cooling' and g.cool_until <= now(), false)) as in_audience,
       u.status = 'subscribed' and coalesce(u.break_until <= now(), true) and not c.erased and c.merged_into is null
         and ($7 or coalesce(g.state, 'active') not in ('cooling', 'trying', 'resting'))
         and not exists (
           select from suppression x
            where x.key in (c.address_key, '@' || d.name) and x.released is null and x.until > now()
         ) as clear
  from page u
  join lateral (select * from contact where id = u.contact_id limit 1) c on true
  join lateral (select * from domain where id = c.domain_id) d on true
  left join lateral (
    select state, cool_until from engagement where stream_id = $1 and contact_id = u.contact_id limit 1
  ) g on true
  left join lateral (
    select job_id
      from enrolled
     where $8 is not null and program_id = $4 and node = $5 and contact_id = u.contact_id and round = $6
     limit 1
  ) n on true
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
       f.version, p.fence, p.status::text, t.version, e.version, null::timestamptz, f.sent, f.sent_on
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
-- each gets an entry too, by way of $12. $13 the round. Each is due, and too late, $14
-- seconds after the one before, but too late by $15 (null: never). $16 the prio. $17 by how
-- many microseconds each is due before the others (null: none): the engaged come first. Who has
-- this step in this round already gets nothing: the caller holds lock_enqueue, so what a look at the
-- page's range shows is all there is, and costs a twentieth of `on conflict` for each
-- (1.4 µs a mail).
with known as materialized (
  select contact_id
    from enrolled
   where program_id = $3 and node = $7 and contact_id between ($1::bigint[])[1] and ($1)[cardinality($1)]
     and round = $13
), made as materialized (
  select contact_id, site_id, nextval('job_id') as job_id,
         (row_number() over () - 1) * $14::float8 * interval '1 s' as later, lead
    from (
      select a.contact_id, a.site_id, coalesce(a.lead, 0) * interval '1 microsecond' as lead
        from unnest($1, $2::int[], $17::int[]) as a (contact_id, site_id, lead)
       where not exists (select from known k where k.contact_id = a.contact_id)
       order by a.contact_id
    ) a
), noted as (
  insert into enrolled (program_id, node, round, contact_id, job_id)
  select $3, $7, $13, contact_id, job_id from made
), entered as (
  insert into entry (program_id, version, contact_id, stream_id, node, via, round)
  select $3, $4, contact_id, $5, $7, $12, $13 from made where $12::text is not null order by contact_id
  on conflict do nothing
  returning id, contact_id
), queued as (
  insert into job (id, contact_id, stream_id, program_id, version, message_id, entry_id, site_id, class, prio,
                   due, not_after)
  select m.job_id, m.contact_id, $5, $3, $4, $6, n.id, m.site_id, $8::smallint, $16::smallint,
         $9::timestamptz + m.later - m.lead, least($10::timestamptz + m.later, $15::timestamptz)
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
-- $7 slot, $8 round.
with made as (
  insert into enrolled (program_id, node, round, contact_id, job_id)
  select $3, $6, $8, a.contact_id, nextval('job_id')
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
-- them those that were left out; and its definition.
select coalesce(sum(n) filter (where key = 'enrolled'), 0)::bigint as enrolled,
       coalesce(sum(n) filter (where key like 'skipped:%'), 0)::bigint as left_out, v.definition
  from program p
  join program_version v on v.program_id = p.id and v.version = p.version
  left join tally t on t.program_id = p.id and t.slot = $2
 where p.name = $1
 group by v.program_id, v.version;

-- name: mark_enqueued
-- Contacts up to $2 are in; $3: that was all of them. $4: the next first mail may be due.
update program
   set enqueued_to = $2, enqueued = case when $3 then now() end, next_slot = coalesce($4, next_slot),
       status = case when status = 'scheduled' then 'running' else status end
 where id = $1;

-- name: horizon
-- What transactions that began before this have written can be seen: rows that carry the
-- time of theirs are complete up to it. Who has written nothing for ten minutes is a reader.
select coalesce(min(xact_start), now())
  from pg_stat_activity
 where datname = current_database() and backend_type = 'client backend' and xact_start < now()
   and (backend_xid is not null or xact_start > now() - interval '10 min');

-- name: open_programs
-- Programs that take people in while they run, and those that hand theirs over to them.
select p.name, array(select distinct program_id from program_version where definition ->> 'then' = p.name)
  from program p
  join program_version v on v.program_id = p.id and v.version = p.version
 where p.status = 'running' and p.enqueued is not null and (p.not_after is null or p.not_after > now())
   and v.definition ->> 'enrol' in ('current_and_future', 'handed_over')
   and coalesce(jsonb_typeof(v.definition -> 'yearly'), 'null') = 'null'
 order by p.id;

-- name: newly_eligible
-- Up to 5,000 marks that program $1, of stream $2, has a look at contacts: their permission
-- or their state changed, their break or their cool-down ended ($7: it takes those only), or one of
-- programs $9 handed them over. After ($5, $6), before $8, in order; with $10 false hand-overs only.
-- Contacts $11 are looked at in any case, by way of a redirect.
-- `takes`: not in the program, and was not, but for those who were left out for their state;
-- a reactivation takes people again. $3, $4, in_audience, clear: as audience_page.
-- Plan: an index on each of the five, never what was looked at before.
with found as materialized (
  (select changed as at, contact_id, 'enrol' as via
     from subscription
    where $10 and stream_id = $2 and (changed, contact_id) > ($5::timestamptz, $6::bigint) and changed < $8
    order by changed, contact_id
    limit 5000)
   union all
  (select made, contact_id, 'enrol'
     from transition
    where $10 and stream_id = $2 and (made, contact_id) > ($5, $6) and made < $8
    order by made, contact_id
    limit 5000)
   union all
  (select cool_until, contact_id, 'enrol'
     from engagement
    where $10 and $7 and stream_id = $2 and state = 'cooling' and (cool_until, contact_id) > ($5, $6)
      and cool_until < $8
    order by cool_until, contact_id
    limit 5000)
   union all
  (select break_until, contact_id, 'enrol'
     from subscription
    where $10 and stream_id = $2 and (break_until, contact_id) > ($5, $6) and break_until < $8
    order by break_until, contact_id
    limit 5000)
   union all
  select e.ended, e.contact_id, 'then'
    from unnest($9::int[]) f (id)
   cross join lateral (
     select ended, contact_id
       from entry
      where program_id = f.id and why = 'engaged' and (ended, contact_id) > ($5, $6) and ended < $8
      order by ended, contact_id
      limit 5000
   ) e
   union all
  select now(), contact_id, 'redirect' from unnest($11::bigint[]) r (contact_id)
), page as materialized (
  select * from found order by at, contact_id limit 5000
)
select x.at, x.contact_id, x.via, d.site_id, g.state::text, coalesce(f.round + 1, 0)::smallint as round,
       not exists (
         select from jsonb_each($3::jsonb) j where not coalesce(j.value @> (c.attributes -> j.key), false)
       ) and u.status is not null and case when $7
         then coalesce(g.state = 'cooling' and g.cool_until <= now(), false) and not coalesce(f.queued, false)
              and not exists (
                select from entry n where n.program_id = $1 and n.contact_id = x.contact_id and n.ended is null)
         else f.round is null
              or f.outcome = 'skipped' and (f.reason like 'inactive:%' or f.reason = 'not_confirmed') end as takes,
       u.status = 'subscribed' and coalesce(u.break_until <= now(), true) and not c.erased and c.merged_into is null
         and ($7 or coalesce(g.state, 'active') not in ('cooling', 'trying', 'resting'))
         and not exists (
           select from suppression s
            where s.key in (c.address_key, '@' || d.name) and s.released is null and s.until > now()
         ) as clear
  from page x
  join lateral (select * from contact where id = x.contact_id limit 1) c on true
  join lateral (select * from domain where id = c.domain_id) d on true
  left join lateral (
    select status, break_until from subscription where stream_id = $2 and contact_id = x.contact_id limit 1) u on true
  left join lateral (
    select state, cool_until from engagement where stream_id = $2 and contact_id = x.contact_id limit 1) g on true
  left join lateral (
    select r.round, l.outcome, l.reason, exists (select from job where id = r.job_id) as queued
      from enrolled r
      left join ledger l on l.job_id = r.job_id
     where r.program_id = $1 and r.node = $4 and r.contact_id = x.contact_id
     order by r.round desc
     limit 1
  ) f on true
 order by x.at, x.contact_id;

-- name: mark_open
-- Who became eligible up to $2, and at that moment up to contact $3, was let in.
update program set open_to = $2, open_contact = $3 where id = $1;

-- name: mark_slot
update program set next_slot = coalesce($2, next_slot) where id = $1;

-- name: yearly_programs
-- Programs with a date, that run or whose start has come, with what they say of it and the day they took last.
select p.id, p.name, v.definition -> 'yearly', p.day
  from program p
  join program_version v on v.program_id = p.id and v.version = p.version
 where (p.status = 'running' or p.status = 'scheduled' and p.starts <= now())
   and (p.not_after is null or p.not_after > now()) and jsonb_typeof(v.definition -> 'yearly') = 'object'
   and (p.enqueued is not null or p.day is null)
 order by p.id;

-- name: begin_day
-- Program $1 goes through its audience for day $2.
update program
   set day = $2, enqueued = null, enqueued_to = 0, starts = now(),
       status = case when status = 'scheduled' then 'running' else status end
 where id = $1 and status in ('scheduled', 'running') and (day is null or day < $2);

-- name: analyze_queue
-- The columns that statements ask for; all of them would be three times the work.
analyze job (site_id, prio, due, contact_id, program_id);

-- name: schedule_program
update program set status = 'scheduled', starts = $2, fence = fence + 1, why = null where id = $1;

-- name: hold_jobs
-- Jobs of a paused program leave the due index.
with jobs as materialized (
  select id from job where program_id = $1 and worker is null and not parked order by id for no key update
)
update job set parked = true from jobs where job.id = jobs.id returning job.id;

-- name: unhold_jobs
-- Back into the due index; with $2 all of them are due now, so that the gate ends
-- them. Returns the sites that have something due again. Locks all that waits, which
-- space needs in the same transaction.
with jobs as materialized (
  select id, parked or $2 or reason = 'paused' as held
    from job
   where program_id = $1 and worker is null
   order by id
     for no key update
), back as (
  update job set parked = false,
                 due = case when $2 or job.reason = 'paused' then least(job.due, now()) else job.due end
    from jobs where job.id = jobs.id and jobs.held
  returning job.site_id
)
select distinct site_id from back where site_id is not null;

-- name: spacing
-- How many seconds program $1 leaves between the first mails of two people; 0: it does not say.
select coalesce((v.definition ->> 'spacing')::float8, 0)
  from program p
  join program_version v on v.program_id = p.id and v.version = p.version
 where p.id = $1;

-- name: lock_spaced
-- The entries that space will move, which are locked before jobs are. Who only waits for the end
-- of program $1 has no mail to come.
with entries as materialized (
  select id
    from entry
   where program_id = $1 and ended is null and due is not null and node <> 'end'
   order by id
     for no key update
)
select count(*) from entries;

-- name: space
-- After a pause, people who wait for a next mail, that is due or will be, and mail of program $1
-- that waits and was never tried stand $2 seconds apart, in one line, from now on and in the order
-- in which they were due; nobody goes on sooner than they would have. What is too late goes to the
-- gate at once. Returns when the next first mail may be due. The caller has locked the entries, and
-- jobs behind them.
with jobs as materialized (
  select id, due
    from job
   where program_id = $1 and worker is null and not parked and attempt = 0 and doubts = 0 and not_after > now()
   order by id
     for no key update
), line as (
  select id, due, true as queued from jobs
   union all
  select id, due, false
    from entry
   where program_id = $1 and ended is null and due is not null and node <> 'end'
), ranked as (
  select *, (row_number() over (order by due, queued, id) - 1) * $2::float8 * interval '1 s' as offset_ from line
), spaced as materialized (
  select id, queued, max(greatest(due, now()) - offset_) over (order by due, queued, id) + offset_ as due, due as before
    from ranked
), waiting as (
  update entry set due = s.due from spaced s where not s.queued and entry.id = s.id and s.due > s.before
), moved as (
  update job set due = s.due from spaced s where s.queued and job.id = s.id and s.due > s.before
)
select greatest(now(), max(due) filter (where queued or before <= now()) + $2::float8 * interval '1 s') from spaced;

-- name: waiting
-- What a cancelling of program $1 would end: mails that wait, people who are in it.
select (select count(*) from job where program_id = $1 and begun is null),
       (select count(*) from entry where program_id = $1 and ended is null);

-- name: finish_programs
-- Programs with nothing left to do are done; those that take people in, when their time is over;
-- transactional ones never.
-- Plan: the first entry of each index. "None is there" would be a join with the whole queue, and
-- `limit 1` alone a scan of the table up to its first row, behind all that are dead.
with over as materialized (
  select p.id
    from program p
    join program_version v on v.program_id = p.id and v.version = p.version
   where p.status = 'running' and p.enqueued is not null and p.class > 0
     and (p.not_after <= now()
          or coalesce(v.definition ->> 'enrol', 'current') = 'current'
             and coalesce(jsonb_typeof(v.definition -> 'yearly'), 'null') = 'null')
     and (select program_id from job where program_id >= p.id order by program_id limit 1) is distinct from p.id
     and (select true from entry where program_id = p.id and ended is null order by contact_id limit 1) is null
   order by p.id
     for no key update of p
)
update program set status = 'done' from over where program.id = over.id returning program.name;

-- name: paused_for_good
-- Reactivations that were paused past their end: nobody may be left trying.
select name from program where kind = 'reactivation' and status = 'paused' and not_after <= now() order by id;

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
