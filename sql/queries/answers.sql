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
-- a row that should not be there can be anywhere in it. 100,000 enrolled among 500,000
-- ledger rows: 0.35 s on 2 idle cores.
with trace as (
  select job_id, 1 as enrolled, 0 as ledger, 0 as queued, null::text as fate
    from enrolled where program_id = $1
  union all
  select job_id, 0, 1, 0, case outcome when 'skipped' then 'skipped:' || reason else outcome::text end
    from ledger where program_id = $1
  union all
  select id, 0, 0, 1, case when doubts > 0 then 'pending:in_doubt'
                           when begun is not null then 'pending:begun'
                           when attempt > 0 then 'pending:deferred'
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
-- begun, in doubt; the entries that still run; and when the first of the jobs is due.
select count(*) filter (where doubts = 0 and begun is null and attempt = 0),
       count(*) filter (where doubts = 0 and begun is null and attempt > 0),
       count(*) filter (where doubts = 0 and begun is not null),
       count(*) filter (where doubts > 0),
       (select count(*) from entry where program_id = $1 and ended is null),
       min(due)
  from job where program_id = $1;

-- name: mails_of_program
-- Each mail of program $1: enrolled, delivered, opened and clicked by people, in the order of sending.
select e.node, count(*), count(*) filter (where l.outcome = 'delivered'), count(o.job_id), count(c.job_id)
  from enrolled e
  left join ledger l on l.job_id = e.job_id
  left join answer o on o.job_id = e.job_id and o.kind = 'open'
  left join answer c on c.job_id = e.job_id and c.kind = 'click'
 where e.program_id = $1
 group by e.node
 order by min(e.job_id);

-- name: endings_of_program
-- How the jobs of program $1 ended, other than delivered, by outcome and reason.
select outcome::text, reason, count(*)
  from ledger
 where program_id = $1 and outcome <> 'delivered'
 group by outcome, reason
 order by outcome, count(*) desc, reason;

-- name: clicks_of_program
-- The tracked links of program $1 with the clicks of people, and of how many: of those who
-- may only be counted nobody knows. $2: an event id older than the program, so that only
-- newer partitions are read.
with clicked as (
  select m.node, min(m.id) as message, min(k.position) as position, k.url, array_agg(distinct k.id) as links,
         count(v.id) as clicks, count(distinct v.contact_id) as people
    from message m
    join message_link k on k.message_id = m.id and k.position > 0 and k.tracked
    left join event v on v.link_id = k.id and v.kind = 'click' and v.class in ('human', 'proxy') and v.id >= $2
   where m.program_id = $1
   group by m.node, k.url
)
select node, position, url,
       clicks + coalesce((select sum(n) from hit_count where link_id = any(links) and class in ('human', 'proxy')),
                         0)::bigint, people
  from clicked
 order by message, position;

-- name: hits_of_program
-- Opens and clicks of program $1's mails by class, those that are counted only among them;
-- null: not judged yet. $2 as above.
select h.kind, h.class, sum(h.n)::bigint
  from message m
  join message_link k on k.message_id = m.id
 cross join lateral (
   select kind, class::text, 1 as n from event where link_id = k.id and id >= $2
   union all
   select kind::text, null, 1 from pending where link_id = k.id and class is null
   union all
   select case k.position when 0 then 'open' else 'click' end, class::text, n from hit_count where link_id = k.id) h
 where m.program_id = $1
 group by h.kind, h.class
 order by h.kind, h.class;

-- name: contact_by_key
select id, address, address_key, created, locale, zone, attributes, erased, merged_into
  from contact where address_key = $1;

-- name: identities_of_contact
select kind, key from identity where contact_id = $1 order by kind, key;

-- name: suppressions_of_keys
-- Every suppression of the keys $1 (an address, '@' and its domain), the released ones too.
select key, scope::text, reason, source, created, nullif(until, 'infinity'), released,
       released is null and until > clock_timestamp()
  from suppression where key = any($1::text[]) order by created, id;

-- name: streams_of_contact
-- Permission and engagement of contact $1 on each stream that has either.
select s.name, u.status::text, u.basis, u.source, u.consent_at, u.tracking::text, u.break_until, u.changed,
       u.changed_by,
       case when g.contact_id is null or (g.state = 'active' and g.first_sent is null) then 'new'
            else g.state::text end,
       coalesce(g.score, 0), g.since, g.last_sign, g.first_sent, coalesce(g.ignored, 0), g.cool_until,
       g.round_from, g.window_until, coalesce(g.veiled, false), coalesce(g.unclear, 0), coalesce(g.cycle, 0),
       greatest(g.told, '0001-01-01 UTC'), s.version
  from stream s
  left join subscription u on u.stream_id = s.id and u.contact_id = $1
  left join engagement g on g.stream_id = s.id and g.contact_id = $1
 where u.contact_id is not null or g.contact_id is not null
 order by s.name;

-- name: rules_of_contact
-- What decides about contact $1 on the streams where it has a state: their rules as they are
-- now, and the reactivation programs that run there.
select s.name, v.definition,
       array(select name from program p
              where p.stream_id = s.id and p.kind = 'reactivation' and p.status = 'running' order by name), now()
  from engagement g
  join stream s on s.id = g.stream_id
  join stream_version v on v.stream_id = s.id and v.version = s.version
 where g.contact_id = $1
 order by s.name;

-- name: mails_of_contact
-- What became of every mail to contact $1, the queued ones last. Those left out at the
-- start had no job: attempts 0, created and ended at once.
select l.job_id, p.name, s.name, m.node, l.outcome::text, l.reason, l.reply, l.attempts, l.doubts, l.created,
       l.begun, l.ended, null::timestamptz as due, l.entry_id
  from ledger l
  join program p on p.id = l.program_id
  join stream s on s.id = l.stream_id
  join message m on m.id = l.message_id
 where l.contact_id = $1
union all
select j.id, p.name, s.name, m.node,
       case when j.begun is not null then 'begun' else 'waiting' end,
       coalesce(j.reason, ''), null, j.attempt, j.doubts, j.created, j.begun, null, j.due, j.entry_id
  from job j
  join program p on p.id = j.program_id
  join stream s on s.id = j.stream_id
  join message m on m.id = j.message_id
 where j.contact_id = $1
 order by 12 nulls last, 13, 1;

-- name: events_of_contact
-- Every event of contact $1, with the mail and the link that it came from, and the hits
-- that are not judged yet.
select v.id, v.kind, v.at, v.class, v.job_id, p.name, m.node, k.position, nullif(k.url, ''), s.name, v.data
  from (select id, kind, at, class::text, job_id, link_id, stream_id, data from event where contact_id = $1
        union all
        select h.event_id, h.kind::text, h.at, null, h.job_id, h.link_id, l.stream_id,
               jsonb_strip_nulls(jsonb_build_object('method', h.method, 'agent', h.agent, 'network', h.network))
          from ledger l join pending h on h.job_id = l.job_id and h.class is null
         where l.contact_id = $1) v
  left join message_link k on k.id = v.link_id
  left join message m on m.id = k.message_id
  left join program p on p.id = m.program_id
  left join stream s on s.id = coalesce(v.stream_id, p.stream_id)
 order by v.at, v.id;

-- name: transitions_of_contact
-- The last column: the version of the stream's rules when it was written down.
select t.id, s.name, coalesce(t.from_state::text, 'new'), t.to_state::text, t.why, t.fact, t.at, t.takes_back,
       (select max(v.version) from stream_version v where v.stream_id = t.stream_id and v.made <= t.made)
  from transition t join stream s on s.id = t.stream_id
 where t.contact_id = $1
 order by t.at, t.id;

-- name: entries_of_contact
-- Contact $1's ways through programs.
select e.id, p.name, s.name, e.node, e.due, e.entered, e.ended, e.why
  from entry e
  join program p on p.id = e.program_id
  join stream s on s.id = e.stream_id
 where e.contact_id = $1
 order by e.entered, e.id;

-- name: definitions
-- Every program, or only that of name $1, and what decides who belongs to it.
select p.name, p.kind::text, s.name, p.status::text, p.starts, p.enqueued, v.definition
  from program p
  join stream s on s.id = p.stream_id
  join program_version v on v.program_id = p.id and v.version = p.version
 where $1::text is null or p.name = $1
 order by p.created, p.id;

-- name: definitions_of_entries
-- The definition that each entry of contact $1 keeps.
select e.id, v.definition
  from entry e join program_version v on v.program_id = e.program_id and v.version = e.version
 where e.contact_id = $1;

-- name: waiting_entries
-- What decides when the next mail of each entry of contact $1 that waits for it may go: id,
-- due, stream and its definition, zone, attributes, sends and their streams.
select n.id, n.due, n.stream_id, w.definition, c.zone, c.attributes, f.sent, f.sent_on
  from entry n
  join contact c on c.id = n.contact_id
  join gate f on f.contact_id = n.contact_id
  join stream t on t.id = n.stream_id
  join stream_version w on w.stream_id = t.id and w.version = t.version
 where n.contact_id = $1 and n.ended is null and n.due is not null;

-- name: facts_of_queued
-- Facts (engine/facts.py) of the jobs that are queued for contact $1, and after them the
-- definitions of their program's version and of their stream, and when each is due.
select j.id, j.contact_id, j.stream_id, j.program_id, j.version, j.message_id, j.entry_id, coalesce(j.site_id, 0),
       j.class, j.attempt, j.doubts, j.created, j.not_after, m.node,
       c.address, c.address_key, d.name, c.locale, c.zone, c.attributes, c.erased,
       u.status::text, u.break_until, u.tracking::text,
       (select reason from suppression x
         where x.key = c.address_key and x.scope = 'all' and x.released is null and x.until > clock_timestamp()),
       (select reason from suppression x
         where x.key = c.address_key and x.scope = 'marketing' and x.released is null and x.until > clock_timestamp()),
       g.state::text, g.since, g.cool_until, coalesce(g.cycle, 0),
       n.ended is not null, n.why,
       f.version, p.fence, p.status::text, t.version, e.version,
       case when j.doubts > 0
            then least((select min(h.at) from pending h where h.job_id = j.id and h.class in ('human', 'proxy')),
                       (select p.confirmed from proof p where p.job_id = j.id)) end,
       f.sent, f.sent_on, j.slot,
       v.definition, w.definition, j.due
  from job j
  join contact c on c.id = j.contact_id
  join gate f on f.contact_id = j.contact_id
  join message m on m.id = j.message_id
  join program p on p.id = j.program_id
  join program_version v on v.program_id = j.program_id and v.version = j.version
  join stream t on t.id = j.stream_id
  join stream_version w on w.stream_id = t.id and w.version = t.version
  join domain d on d.id = c.domain_id
  left join subscription u on u.stream_id = j.stream_id and u.contact_id = j.contact_id
  left join engagement g on g.stream_id = j.stream_id and g.contact_id = j.contact_id
  left join entry n on n.id = j.entry_id
 cross join epoch e
 where j.contact_id = $1
 order by j.id;

-- name: engaged_by_program
-- People whom an answer to program $1's mail made Engaged, unless that was taken back.
-- The answer bears the time of the transition.
select count(distinct t.contact_id)
  from transition t
  join answer a on a.contact_id = t.contact_id and a.stream_id = t.stream_id and a.at = t.at
  join ledger l on l.job_id = a.job_id and l.program_id = $1
 where t.to_state = 'engaged' and t.stream_id = $2
   and not exists (select from transition b where b.takes_back = t.id);

-- name: refusals_of_program
-- People who unsubscribed, or complained, by a mail of program $1. $2 as in clicks_of_program.
select kind, count(distinct contact_id)
  from event
 where kind in ('unsubscribe', 'complaint') and id >= $2 and (data ->> 'program')::int = $1
 group by kind;
