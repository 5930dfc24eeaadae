-- Forms, double opt-in and preferences. mtad/consent/store.py.

-- name: form
-- Form $1 with what it says, the program that asks to confirm, and its stream.
select f.id, f.name, f.version, v.definition, f.stream_id, f.program_id, p.version as program_version,
       m.id as message_id, w.definition as stream
  from form f
  join form_version v on v.form_id = f.id and v.version = f.version
  join program p on p.id = f.program_id
  join message m on m.program_id = p.id and m.version = p.version
  join stream s on s.id = f.stream_id
  join stream_version w on w.stream_id = s.id and w.version = s.version
 where f.name = $1;

-- name: forms
-- All of them as above, with how many wait to be confirmed and how many were.
select f.id, f.name, f.version, v.definition, f.stream_id, f.program_id, p.version as program_version,
       m.id as message_id, w.definition as stream,
       (select count(*) from proof x where x.form_id = f.id and x.confirmed is null) as waiting,
       (select count(*) from proof x where x.form_id = f.id and x.confirmed is not null) as confirmed
  from form f
  join form_version v on v.form_id = f.id and v.version = f.version
  join program p on p.id = f.program_id
  join message m on m.program_id = p.id and m.version = p.version
  join stream s on s.id = f.stream_id
  join stream_version w on w.stream_id = s.id and w.version = s.version
 order by f.name;

-- name: way_back
-- The form of stream $2 by which contact $1 comes back, in its language if there is one, and its address.
select f.name, c.address
  from form f
  join form_version v on v.form_id = f.id and v.version = f.version
  join contact c on c.id = $1 and not c.erased
 where f.stream_id = $2
 order by v.definition ->> 'language' = left(lower(c.locale), 2) desc nulls last, f.id
 limit 1;

-- name: add_form
insert into form (name, stream_id, program_id, version) values ($1, $2, $3, 1) returning id;

-- name: set_form_version
update form set version = $2, stream_id = $3 where id = $1;

-- name: add_form_version
insert into form_version (form_id, version, definition, made_by) values ($1, $2, $3, $4);

-- name: open_program
update program set status = 'running', starts = coalesce(starts, now()), enqueued = now() where id = $1;

-- name: use_form
-- Count a use of a form from household $1, which stands in network $2: $3 at once and then one
-- each $4 seconds, of the network $5 times as many. Whether both had one left. Exact over all
-- workers, for each waits for who uses the same row; the household's comes first everywhere.
with own as (
  insert into form_use (key, full_at) values ($1, now() + $4::float8 * interval '1 s')
  on conflict (key) do update set full_at = greatest(form_use.full_at, now()) + $4::float8 * interval '1 s'
   where form_use.full_at <= now() + ($3::int - 1) * $4::float8 * interval '1 s'
  returning 1
), wider as (
  insert into form_use (key, full_at)
  select 'in ' || $2::text, now() + $4::float8 / $5::int * interval '1 s' from own
  on conflict (key) do update set full_at = greatest(form_use.full_at, now()) + $4::float8 / $5::int * interval '1 s'
   where form_use.full_at <= now() + ($3::int * $5::int - 1) * $4::float8 / $5::int * interval '1 s'
  returning 1
)
select exists (select from wider);

-- name: forget_uses
-- Who might use a form as often as anybody is not remembered.
delete from form_use
 where key in (select key from form_use where full_at < now() order by key limit 5000 for update skip locked);

-- name: add_contact
-- Make the contact with address $1 and key $2 at domain $3, of language $4, unless it is known.
with domains as (
  insert into domain (name) values ($3) on conflict (name) do nothing returning id
), made as (
  insert into contact (address, address_key, domain_id, locale, by_form)
  select $1, $2, d.id, $4, true
    from (select id from domains union select id from domain where name = $3) d
   where not exists (select from contact where address_key = $2)
  on conflict (address_key) do nothing
  returning id
), identities as (
  insert into identity (kind, key, contact_id) select 'email', $2, id from made on conflict do nothing
)
insert into gate (contact_id) select id from made;

-- name: lock_contact
select c.id, c.address, d.site_id
  from contact c
  join gate g on g.contact_id = c.id
  join domain d on d.id = c.domain_id
 where c.address_key = $1
   for no key update of g;

-- name: subscribed
select exists (select from subscription where stream_id = $2 and contact_id = $1 and status = 'subscribed');

-- name: asked
-- Confirmation mails to contact $1 within a day, or still to come, the latest first, each with the
-- time when it went, and whether it is queued: then it may go at any time, for a receiver holds it
-- up as it likes. What was answered has gone, whatever the queue knows of it.
select p.form_id, p.form_version, m.at, p.confirmed is not null, m.queued
  from proof p
  left join ledger l on l.job_id = p.job_id
  left join job j on j.id = p.job_id
 cross join lateral (
   select greatest(p.due, l.ended, case when j.id is not null then p.confirmed end) as at,
          j.id is not null and p.confirmed is null as queued) m
 where p.contact_id = $1 and (m.queued or m.at > now() - interval '24 hours')
 order by m.at desc;

-- name: next_job
select nextval('job_id') as job_id, now() as at;

-- name: ask
-- Mail $1 to contact $2: stream $3, program $4, version $5, message $6, site $7, due $8, not after
-- $9, slot $10 of the tally; and what it asks about: form $11, version $12, address $13, page $14,
-- consent $15, measuring $16, from $17 with $18, Message-ID $19. The same address may be asked
-- more than once, so the job is part of the step's key.
with queued as (
  insert into job (id, contact_id, stream_id, program_id, version, message_id, site_id, class, prio, due, not_after)
  values ($1, $2, $3, $4, $5, $6, $7, 0, 0, $8, $9)
), noted as (
  insert into enrolled (program_id, node, contact_id, job_id) values ($4, 'confirm/' || $1::bigint, $2, $1)
), proven as (
  insert into proof (job_id, contact_id, stream_id, form_id, form_version, address, page, consent, measuring,
                     asked, asked_ip, asked_agent, message_id, due)
  values ($1, $2, $3, $11, $12, $13, $14, $15, $16, now(), $17::text::inet, $18, $19, $8)
)
insert into tally (program_id, slot, key, n) values ($4, $10, 'enrolled', 1)
on conflict (program_id, slot, key) do update set n = tally.n + 1;

-- name: add_unconfirmed
-- Whoever left stays out until the new consent is confirmed.
insert into subscription (stream_id, contact_id, status, basis, source, changed_by)
values ($1, $2, 'unconfirmed', 'consent', $3, 'form')
on conflict (stream_id, contact_id) do nothing;

-- name: asking
-- What mail $1 asks to confirm, in the words of its proof, and what came of it (tracker.desk.Confirmed).
select v.definition ->> 'language', p.consent, coalesce(p.measuring, ''),
       case when p.confirmed is null then null when u.status = 'subscribed' then 'done' else 'used' end
  from proof p
  join form_version v on v.form_id = p.form_id and v.version = p.form_version
  left join subscription u on u.stream_id = p.stream_id and u.contact_id = p.contact_id
 where p.job_id = $1 and (p.confirmed is not null or p.asked > now() - interval '7 days');

-- name: lock_asked
-- The gate of whoever was asked by mail $1.
select g.contact_id
  from proof p join gate g on g.contact_id = p.contact_id
 where p.job_id = $1
   for no key update of g;

-- name: waiting
select p.contact_id, p.stream_id, 'form:' || f.name,
       coalesce(v.definition ->> 'measuring', '') <> '', p.measuring is not null,
       p.confirmed is not null, p.asked > now() - interval '7 days',
       exists (select from subscription u
                where u.stream_id = p.stream_id and u.contact_id = p.contact_id and u.status = 'subscribed')
  from proof p
  join form f on f.id = p.form_id
  join form_version v on v.form_id = f.id and v.version = p.form_version
 where p.job_id = $1
   for no key update of p;

-- name: confirm
-- Mail $1 was answered at $2 from $3 with $4.
update proof set confirmed = $2, confirmed_ip = $3::text::inet, confirmed_agent = $4 where job_id = $1;

-- name: note_answers
-- Proofs outlive the ledger, so what the server said to the mail is kept with them; where that was no 250
-- (an answer that was lost, and a mail that was confirmed all the same), behind what the mail ended as.
with answered as materialized (
  select p.job_id, l.ended,
         case when l.outcome = 'delivered' then l.reply else l.outcome || ': ' || coalesce(l.reply, l.reason) end as reply
    from proof p
    join lateral (select outcome, ended, reply, reason from ledger where job_id = p.job_id limit 1) l on true
   where p.confirmed is not null and p.sent is null
   order by p.job_id
     for no key update of p
)
update proof set sent = a.ended, reply = a.reply from answered a where proof.job_id = a.job_id returning proof.job_id;

-- name: importing
-- Whether a file is being imported: it holds the lock below, for as long as it takes.
select exists (
  select from pg_locks
   where relation = 'attribute'::regclass and mode = 'ShareRowExclusiveLock' and granted
     and database = (select oid from pg_database where datname = current_database()));

-- name: lock_imports
-- Nobody is imported while we look who can be forgotten.
lock table attribute in share row exclusive mode;

-- name: expired
-- A proof leads to its contact, so it stays until its mail has ended.
select job_id, contact_id
  from proof
 where confirmed is null and asked <= now() - interval '7 days'
   and not exists (select from job where id = proof.job_id)
 order by asked
 limit 500;

-- name: lock_gates
select contact_id from gate where contact_id = any($1::bigint[]) order by contact_id for no key update;

-- name: forget_asking
-- Mails $1 were not answered. A confirmation that comes now finds nothing.
delete from proof where job_id = any($1::bigint[]) and confirmed is null;

-- name: forget_unconfirmed
-- Of contacts $1, what nobody is asked to confirm any more.
delete from subscription u
 where u.contact_id = any($1::bigint[]) and u.status = 'unconfirmed' and u.source like 'form:%'
   and not exists (select from proof p where p.contact_id = u.contact_id and p.stream_id = u.stream_id);

-- name: known_by_form_only
-- Those of contacts $1 who came by a form, and of whom nothing else is known: no file brought
-- them, no server told of them, and no mail went to them but those that ask to confirm.
select c.id
  from contact c
 where c.id = any($1::bigint[]) and c.by_form and not c.erased and c.attributes = '{}'
   and not exists (select from subscription where contact_id = c.id)
   and not exists (select from proof where contact_id = c.id)
   and not exists (select from engagement where contact_id = c.id)
   and not exists (select from entry where contact_id = c.id)
   and not exists (select from job where contact_id = c.id)
   and not exists (select from identity where contact_id = c.id and kind <> 'email')
   and not exists (
         select from ledger l
          where l.contact_id = c.id and not exists (select from form f where f.program_id = l.program_id))
 order by c.id;

-- name: forget_mails
update ledger set contact_id = null where contact_id = any($1::bigint[]);

-- name: forget_events
update event set contact_id = null where contact_id = any($1::bigint[]);

-- name: forget_contacts
-- The row stays, empty: rows without a foreign key may name it.
with identities as (
  delete from identity where contact_id = any($1::bigint[])
)
update contact
   set address = '', address_key = 'gone:' || id, locale = null, zone = null, erased = true
 where id = any($1::bigint[]);

-- name: person
-- Contact $1 and the stream of program $2; and a row for each stream to which the contact stands
-- in some way, that one first, with what can be done about it (none: one row of nulls).
select c.address, c.locale, p.stream_id as of_mail, w.definition ->> 'language' as language,
       u.stream_id, v.definition, u.status::text, case when u.break_until > now() then u.break_until end as break_until,
       u.tracking::text,
       coalesce(
         u.changed > now() - interval '24 hours' and u.changed_by in ('one_click', 'page', 'preferences')
         and (u.status = 'unsubscribed' or u.status = 'subscribed' and u.break_until > now())
         and u.source <> u.changed_by
         and (u.source not like 'form:%' or exists (
               select from proof x
                where x.contact_id = u.contact_id and x.stream_id = u.stream_id and x.confirmed is not null)),
         false) as undo,
       exists (select from form f where f.stream_id = u.stream_id) as form
  from contact c
  left join program p on p.id = $2
  left join stream m on m.id = p.stream_id
  left join stream_version w on w.stream_id = m.id and w.version = m.version
  left join subscription u on u.contact_id = c.id
  left join stream s on s.id = u.stream_id
  left join stream_version v on v.stream_id = s.id and v.version = s.version
 where c.id = $1 and not c.erased
 order by u.stream_id = p.stream_id desc, u.stream_id;

-- name: streams_of
-- Every stream to which contact $1 stands in some way.
select stream_id from subscription where contact_id = $1 order by stream_id;
