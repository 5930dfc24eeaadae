-- What came back to us by mail, as another system has read it: engine/reports.py.

-- name: bounce_late
-- Mail that bounced after it had been taken: that of contacts $1 with the job $2 (null: the last
-- that they got in the 5 days before), at $3. Returns stream and contact of what was not known.
-- Plan: single-row look-ups by primary key, and the end of a range of ledger_contact_idx.
with asked as materialized (
  select l.job_id, min(a.at) as at
    from unnest($1::bigint[], $2::bigint[], $3::timestamptz[]) as a (contact_id, job_id, at)
    left join lateral (
      select job_id from ledger
       where a.job_id is null and contact_id = a.contact_id and outcome = 'delivered'
         and ended <= a.at and ended > a.at - interval '5 d'
       order by ended desc
       limit 1) last on true
    join lateral (
      select job_id from ledger
       where job_id = coalesce(a.job_id, last.job_id) and contact_id = a.contact_id
         and outcome in ('delivered', 'in_doubt') and bounced_late is null
      offset 0) l on true
   group by l.job_id
), mails as materialized (
  select l.job_id, a.at
    from asked a
    join ledger l on l.job_id = a.job_id
   order by l.job_id
     for no key update of l
)
update ledger
   set bounced_late = mails.at
  from mails
 where ledger.job_id = mails.job_id
returning ledger.stream_id, ledger.contact_id;

-- name: hold_ways
-- Reactivations of contacts $1, each there once, go on at $2, not before.
with ways as materialized (
  select n.id, a.until
    from unnest($1::bigint[], $2::timestamptz[]) as a (contact_id, until)
    join entry n on n.contact_id = a.contact_id and n.ended is null and n.due < a.until
    join program p on p.id = n.program_id and p.kind = 'reactivation'
   order by n.id
     for no key update of n
)
update entry set due = ways.until from ways where entry.id = ways.id;

-- name: keys_of_contacts
select id, address_key from contact where id = any($1::bigint[]) and not erased;
