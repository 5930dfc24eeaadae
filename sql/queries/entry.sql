-- Entries from step to step: mtad/queue/entries.py.

-- name: due_entries
-- Entries whose wait is over, of programs that run. Not locked: the caller locks
-- gates first where it ends some. Where silence is concluded, at an end or a choice, every
-- tracker must have brought in what it heard up to then, and must have been in reach.
select n.id, n.program_id, n.version, n.contact_id, n.stream_id, n.node, n.due, s.version as stream_version,
       d.site_id, p.class, p.not_after
  from entry n
  join program p on p.id = n.program_id
  join stream s on s.id = n.stream_id
  join lateral (select domain_id from contact where id = n.contact_id limit 1) c on true
  join lateral (select site_id from domain where id = c.domain_id limit 1) d on true
 where n.ended is null and n.due <= now() and p.status = 'running'
   and (n.node <> 'end' and n.node not like 'choose %'
        or n.due <= (select read_until())
           and not exists (select from reach where stream_id = n.stream_id and holds and good < n.due))
 order by n.due
 limit 2000;

-- name: last_answers
-- What was done with the last mail that arrived, or may have, of each entry $1: its send
-- node; whether the contact may be measured; whether the mail could show an open; whether a
-- hit on it waits to be judged; opened by a person; fetched by somebody who hides people;
-- the positions of the links that were clicked.
-- Plan: look-ups by contact only (ledger_contact_idx, event_contact_idx).
select n.id, m.node, coalesce(u.tracking::text, w.definition ->> 'tracking') = 'full', m.pixel,
       exists (select from pending h where h.job_id = l.job_id and h.class is null),
       coalesce(bool_or(e.kind = 'open' and e.class in ('human', 'proxy')), false),
       coalesce(bool_or(e.kind = 'open' and e.class = 'veiled'), false),
       coalesce(array_agg(distinct k.position::int) filter (where k.position is not null), '{}')
  from unnest($1::bigint[]) as a (id)
  join lateral (select * from entry where id = a.id limit 1) n on true
  join stream s on s.id = n.stream_id
  join stream_version w on w.stream_id = s.id and w.version = s.version
  join lateral (
    select job_id, message_id, created
      from ledger
     where contact_id = n.contact_id and entry_id = n.id and outcome in ('delivered', 'in_doubt')
     order by ended desc
     limit 1
  ) l on true
  join lateral (select node, pixel from message where id = l.message_id limit 1) m on true
  left join lateral (
    select tracking from subscription where stream_id = n.stream_id and contact_id = n.contact_id limit 1) u on true
  left join lateral (
    select kind, class, link_id
      from event
     where contact_id = n.contact_id and at >= l.created and job_id = l.job_id and kind in ('open', 'click')
       and class in ('human', 'proxy', 'veiled')
    offset 0
  ) e on true
  left join lateral (
    select position from message_link where id = e.link_id and e.kind = 'click' and e.class = 'human' limit 1) k on true
 group by n.id, m.node, u.tracking, w.definition, m.pixel, l.job_id;

-- name: move_entries
-- Entries $1 go on to nodes $2, due at $3.
with x as materialized (
  select * from unnest($1::bigint[], $2::text[], $3::timestamptz[]) as x (entry_id, node, due)
), entries as materialized (
  select id
    from entry
   where id in (select entry_id from x) and ended is null and due is not null
   order by id
     for no key update
)
update entry set node = x.node, due = x.due
  from entries
  join x on x.entry_id = entries.id
 where entry.id = entries.id
returning entry.id;

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
  insert into enrolled (program_id, node, round, contact_id, job_id)
  select n.program_id, x.node, n.round, n.contact_id, nextval('job_id')
    from entries n
    join x on x.entry_id = n.id
   order by n.program_id, x.node, n.contact_id
  on conflict do nothing
  returning program_id, node, contact_id, job_id
), queued as (
  insert into job (id, contact_id, stream_id, program_id, version, message_id, entry_id, site_id, class, prio,
                   due, not_after)
  select m.job_id, n.contact_id, n.stream_id, n.program_id, n.version, x.message_id, n.id, x.site_id,
         p.class, case when p.class < 2 then p.class * 2 else 2 + p.rank * 2 end, now(), x.not_after
    from made m
    join entries n on n.program_id = m.program_id and n.contact_id = m.contact_id
    join x on x.entry_id = n.id
    join program p on p.id = n.program_id
   order by m.job_id
), waiting as (
  update entry set node = x.node, due = null
    from entries
    join x on x.entry_id = entries.id
   where entry.id = entries.id
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
