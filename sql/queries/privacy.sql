-- What is known of one person, its export and its erasure (mtad/audience/persons.py), and the
-- sweeps that keep to the terms of [privacy] (mtad/ops/retention.py).

-- name: contacts_of_person
-- The contacts with address keys $1, whomever they were merged into, and all that were merged
-- into one of these.
with recursive person as (
  select id, merged_into from contact where address_key = any($1::text[])
   union
  select c.id, c.merged_into
    from person p
    join lateral (
      select id, merged_into from contact where merged_into = p.id
       union all
      select id, merged_into from contact where id = p.merged_into) c on true
)
select c.id from contact c join person using (id) where not c.erased order by c.id;

-- name: proofs_of_erased
-- Those that may be of the address key $1: only the address, as it was typed, says whose one is, for the
-- contact is a number. How a key folds what is not ASCII, the caller knows.
select to_jsonb(p)
  from proof p
  join contact c on c.id = p.contact_id
 where c.erased
   and (regexp_replace(lower(p.address collate "C"), '\s|\.+$', '', 'g') = $1 or p.address ~ '[^\x01-\x7f]')
 order by p.job_id;

-- name: keyed_suppressions
-- The keys of erased people.
select distinct key from suppression
 where key >= '#' and key < '$' and released is null
 order by key;

-- name: keys_after
-- The next 10,000 contacts after $1 that are not erased.
select id, address_key from contact where id > $1 and not erased order by id limit 10000;

-- name: plain_suppressions
select distinct key from suppression where key not like '@%' and key not like '#%' order by key;

-- name: forgettable
-- Of the $4 contacts after $1 the keys of those whom streams $2 forget after $3 seconds (0: never) and no other
-- stream holds: on each they have left, or are Inactive, and nothing was heard of them since, as far as trackers
-- were read ($5: as if that were up to now) and in reach; in the longest term nobody told of them, and no mail
-- reached them; nothing of theirs is under way: a mail, an entry, a hit, a consent to be confirmed. And the last of
-- the contacts looked at (null: there are none).
-- Plan: look-ups for each, never a scan, for one contact too: `offset 0` keeps them from becoming joins.
with page as materialized (
  select id from contact where id > $1 order by id limit $4
), term as materialized (
  select * from unnest($2::int[], $3::float8[]) as t (stream_id, seconds) where seconds > 0
), heard as materialized (
  select case when $5 then now() else least(now(), read_until()) end as until
), standing as (
  select u.contact_id,
         bool_and(t.seconds is not null
                  and (u.status = 'unsubscribed'
                       or u.status = 'subscribed' and coalesce(e.state in ('cooling', 'trying', 'resting'), false))
                  and greatest(u.changed, u.consent_at, u.break_until, u.last_open, e.last_sign, e.first_sent)
                      < least(h.until, r.good) - t.seconds * interval '1 s') as over,
         min(h.until - t.seconds * interval '1 s') as since
    from page p
   cross join heard h
   cross join lateral (select * from subscription where contact_id = p.id offset 0) u
    left join term t on t.stream_id = u.stream_id
    left join reach r on r.stream_id = u.stream_id and r.holds
    left join lateral (
      select * from engagement where stream_id = u.stream_id and contact_id = u.contact_id offset 0) e on true
   group by u.contact_id
)
select (select max(id) from page),
       array(
         select c.address_key
           from standing s
           join contact c on c.id = s.contact_id
          where s.over and not c.erased and c.merged_into is null
            and not exists (select from job where contact_id = c.id offset 0)
            and not exists (select from entry where contact_id = c.id and ended is null offset 0)
            and not exists (select from proof where contact_id = c.id and confirmed is null offset 0)
            and not exists (select from event where contact_id = c.id and at >= s.since offset 0)
            and not exists (
              select from ledger
               where contact_id = c.id and ended >= s.since and outcome in ('delivered', 'in_doubt') offset 0)
            and not exists (
              select from ledger l
               where l.contact_id = c.id
                 and (exists (select from pending where job_id = l.job_id offset 0)
                      or exists (select from visit where job_id = l.job_id offset 0)) offset 0)
          order by c.id);

-- name: terms_of_streams
select s.id, v.definition from stream s join stream_version v on v.stream_id = s.id and v.version = s.version;

-- name: lock_person
-- The gates of contacts $1, their engagements, entries and jobs, each in the order of its key:
-- whatever an erasure changes of these later is locked.
with gates as materialized (
  select contact_id from gate where contact_id = any($1::bigint[]) order by contact_id for no key update
), engagements as materialized (
  select contact_id
    from engagement
   where contact_id = any($1::bigint[]) and (select count(*) from gates) >= 0
   order by contact_id, stream_id
     for update
), entries as materialized (
  select id
    from entry
   where contact_id = any($1::bigint[]) and (select count(*) from engagements) >= 0
   order by id
     for no key update
)
select from job
 where contact_id = any($1::bigint[]) and (select count(*) from entries) >= 0
 order by id
   for no key update;

-- name: keep_hash
-- Of the suppressions of address $1 only the key $2 stays. $3: who did it.
with gone as (delete from suppression where key = $1)
insert into suppression (key, scope, reason, source) values ($2, 'all', 'erased', $3)
    on conflict (key, scope) where released is null do update set created = now(); -- erased again: since now

-- name: empty_contacts
-- Nothing of contacts $1 is left but the number.
with nowhere as (
  insert into domain (name, resolve_at) values ('erased.invalid', 'infinity')
      on conflict (name) do update set name = excluded.name
  returning id
)
update contact c
   set address = '', address_key = 'erased:' || c.id, locale = null, zone = null, attributes = '{}', erased = true,
       erased_at = coalesce(erased_at, now()), merged_into = null, domain_id = n.id, created = date_trunc('year', created)
  from nowhere n
 where c.id = any($1::bigint[]);

-- name: erase_mail
-- Jobs and mail of contacts $1: ledger rows and enrolled stay as counts, each of nobody; a job
-- that is still queued keeps its number until the pipeline has ended it, as erased. Returns
-- the number of rows that named one of them. A hit that is being judged or folded is left: who
-- does that holds it and asks for engagements next; what becomes of it is swept.
-- Plan: ledger_contact_idx; enrolled by its key, never a scan.
with jobs as materialized (
  select id, program_id, message_id from job where contact_id = any($1::bigint[])
), mails as materialized (
  select job_id, program_id, message_id, contact_id
    from ledger where contact_id = any($1::bigint[]) order by job_id for no key update
), hits as materialized (
  select event_id
    from pending
   where job_id in (select id from jobs union all select job_id from mails)
   order by event_id
     for update skip locked
), views as materialized (
  select event_id
    from visit
   where job_id in (select id from jobs union all select job_id from mails)
   order by event_id
     for update skip locked
), data as (
  delete from job_data where job_id in (select id from jobs) returning 1
), waits as (
  delete from pending where event_id in (select event_id from hits) returning 1
), visits as (
  delete from visit where event_id in (select event_id from views) returning 1
), counted as (
  update enrolled e set contact_id = -e.job_id
    from mails l
    join message m on m.id = l.message_id
   where e.program_id = l.program_id and e.node = m.node and e.contact_id = l.contact_id
  returning 1
), settled as (
  update ledger l set contact_id = null, reply = null, entry_id = null
    from mails m
   where l.job_id = m.job_id and l.contact_id = m.contact_id
  returning 1
)
select (select count(*) from data) + (select count(*) from waits) + (select count(*) from visits)
     + (select count(*) from counted) + (select count(*) from settled);

-- name: erase_rows
-- All else of contacts $1; the number of rows. Events are locked in their order, as by whoever
-- judges again or takes agents from them.
with known as materialized (
  select id from event where contact_id = any($1::bigint[]) order by id for update
), events as materialized (
  delete from event where contact_id = any($1::bigint[]) and (select count(*) from known) >= 0 returning id
), keys as (
  delete from event_key where event_id in (select id from events) returning 1
), answers as (
  delete from answer where contact_id = any($1::bigint[]) returning 1
), transitions as (
  delete from transition where contact_id = any($1::bigint[]) returning 1
), entries as (
  update entry set contact_id = null where contact_id = any($1::bigint[]) and ended is not null returning 1
), engagements as (
  delete from engagement where contact_id = any($1::bigint[]) returning 1
), bases as (
  delete from engagement_base where contact_id = any($1::bigint[]) returning 1
), subscriptions as (
  delete from subscription where contact_id = any($1::bigint[]) returning 1
), identities as (
  delete from identity where contact_id = any($1::bigint[]) returning 1
), asked as (
  delete from proof where contact_id = any($1::bigint[]) and confirmed is null returning 1
), proven as (
  update proof set ended = now() where contact_id = any($1::bigint[]) and confirmed is not null and ended is null
  returning 1
)
select (select count(*) from events) + (select count(*) from keys) + (select count(*) from answers)
     + (select count(*) from transitions) + (select count(*) from entries) + (select count(*) from engagements)
     + (select count(*) from bases) + (select count(*) from subscriptions) + (select count(*) from identities)
     + (select count(*) from asked) + (select count(*) from proven);

-- name: forget_replies
-- Why jobs of contacts $1 wait: a receiver's words may name them. They are locked.
update job set reason = null where contact_id = any($1::bigint[]) and reason is not null;

-- name: erased_lately
-- Contacts erased in the last 30 days of whom something is left: what was being sent, judged
-- or enqueued when they were erased.
select c.id
  from contact c
 where c.erased and c.erased_at > now() - interval '30 days'
   and (exists (select from ledger where contact_id = c.id)
        or exists (select from event where contact_id = c.id)
        or exists (select from answer where contact_id = c.id)
        or exists (select from engagement where contact_id = c.id)
        or exists (select from transition where contact_id = c.id)
        or exists (select from subscription where contact_id = c.id)
        or exists (select from entry where contact_id = c.id and ended is not null))
 order by c.id
 limit 1000;

-- name: rejects_files
-- Files of rejects on host $1.
select path from rejects_file where host = $1 order by path;

-- name: add_rejects_file
insert into rejects_file (host, path) values ($1, $2) on conflict (host, path) do update set made = now();

-- name: erased_since_rejects
-- Files of rejects on host $1 that were made before somebody was erased after $2 (null: ever), with the
-- hashes of these. An hour sooner, for an erasure is seen later than it began.
select f.path, array_agg(s.key order by s.key)
  from rejects_file f
  join suppression s
    on s.key >= '#' and s.key < '$' and s.released is null and s.created >= f.made
   and ($2::timestamptz is null or s.created > $2::timestamptz - interval '1 hour')
 where f.host = $1
 group by f.path
 order by f.path;

-- name: old_rejects_files
-- Files of rejects on host $1 that are older than $2.
select path from rejects_file where host = $1 and made < now() - $2::interval order by path;

-- name: drop_rejects_file
delete from rejects_file where host = $1 and path = $2;

-- name: last_id_before
-- The greatest event id of the millisecond $1 ago.
select (lpad(to_hex(floor(1000 * extract(epoch from now() - $1::interval))::bigint), 12, '0') || repeat('f', 20))::uuid;

-- name: strip_hits
-- Take agent and network from up to 5,000 hits with ids from $1 to $2, in order; returns the
-- last id looked at (null: there are none) and how many were changed. Where a hit was made
-- by a machine stays in its class and reasons.
with page as materialized (
  select id, data ? 'agent' or data ? 'network' as whole
    from event where id > $1 and id <= $2 order by id limit 5000
), meant as materialized (
  select e.id from event e join page p on p.id = e.id where p.whole order by e.id for no key update of e
), stripped as (
  update event e set data = e.data - 'agent' - 'network' from meant m where e.id = m.id returning 1
)
select (select max(id::text)::uuid from page), (select count(*) from stripped);

-- name: old_event_partitions
-- Partitions of event all of whose ids are of calendar months that ended $1 ago.
select c.relname::text
  from pg_inherits i
  join pg_class c on c.oid = i.inhrelid
 where i.inhparent = 'event'::regclass
   and to_date(substring(c.relname from 'event_(\d{4}_\d{2})$'), 'YYYY_MM') + interval '1 month' < now() - $1::interval
 order by 1;

-- name: drop_old_counts
-- Counts of hits older than $1.
with counts as (delete from hit_count where hour < now() - $1::interval returning 1) select count(*) from counts;

-- name: drop_unreached
-- When trackers were out of reach, as long ago as events that are forgotten.
delete from unreached where until < now() - $1::interval;

-- name: drop_suppressions
-- What held somebody up until $1 ago, 20,000 at a time.
delete from suppression
 where id in (
   select id from suppression where least(until, released) < now() - $1::interval
    order by least(until, released) limit 20000 for update skip locked);

-- name: drop_keys
-- Which events were told, once nothing as old is taken any more (tracker/intake.py): 31 days later,
-- 20,000 at a time. A key is what its sender likes, and that of an identify is found by no erasure.
delete from event_key
 where (source, key) in (
   select source, key from event_key
    where event_id < (lpad(to_hex(floor(1000 * extract(epoch from now() - interval '31 days'))::bigint), 12, '0')
                      || repeat('0', 20))::uuid
    order by event_id limit 20000 for update skip locked);

-- name: drop_counted
-- Which hits were counted, once no journal can bring them again: 8 days after that hour or day. 20,000 at a time.
delete from hit_counted
 where event_id in (
   select event_id from hit_counted
    where event_id < (lpad(to_hex(floor(1000 * extract(epoch from now() - interval '8 days'))::bigint), 12, '0')
                      || repeat('0', 20))::uuid
    order by event_id limit 20000);

-- name: end_proofs
-- A proof's term begins when nobody is subscribed by it any more, and again if somebody is.
with over as materialized (
  select p.job_id, p.ended is null as newly
    from proof p
    left join subscription u on u.stream_id = p.stream_id and u.contact_id = p.contact_id
   where p.confirmed is not null
     and (p.ended is null) = (u.status is distinct from 'subscribed')
   order by p.job_id
     for no key update of p
)
update proof p set ended = case when o.newly then now() end from over o where p.job_id = o.job_id;

-- name: drop_proofs
delete from proof where ended < now() - $1::interval;
