-- What people do to their own permission. engine/permission.py; gate rows are locked by it.

-- name: take_break
-- Contact $1 takes a break on stream $2 up to $3; $4 how. Its gate is locked. Returns up to
-- when it had one before (or now). No row: not subscribed there.
with before as materialized (
  select greatest(break_until, now()) as until
    from subscription
   where stream_id = $2 and contact_id = $1 and status = 'subscribed'
)
update subscription
   set break_until = $3, changed = now(), changed_by = $4
  from before
 where stream_id = $2 and contact_id = $1
returning before.until;

-- name: shift_waits
-- What entries of contact $1 on stream $2 wait for comes $3 seconds later (negative: sooner).
with entries as materialized (
  select id
    from entry
   where contact_id = $1 and stream_id = $2 and ended is null and due is not null
   order by id
     for no key update
)
update entry set due = due + $3::float8 * interval '1 s' from entries where entry.id = entries.id;

-- name: undo
-- What contact $1 took back on stream $2 within a day, leaving or a break, holds again; $3 how.
-- Only what the person did: not an operator, not a file. Who never confirmed stays out. Who left
-- in a break is in that break again, and an undo is not undone. Returns how many seconds of a
-- break were taken back.
with before as materialized (
  select case when status = 'subscribed' then greatest(0, extract(epoch from break_until - now())) else 0 end::float8
           as rest
    from subscription
   where stream_id = $2 and contact_id = $1
)
update subscription s
   set status = 'subscribed', break_until = case when s.status = 'unsubscribed' then s.break_until end,
       changed = now(), changed_by = $3 || ', undone'
  from before
 where s.stream_id = $2 and s.contact_id = $1
   and s.changed > now() - interval '24 hours' and s.changed_by in ('one_click', 'page', 'preferences')
   and (s.status = 'unsubscribed' or s.status = 'subscribed' and s.break_until > now())
   and s.source <> s.changed_by
   and (s.source not like 'form:%' or exists (
         select from proof p
          where p.contact_id = $1 and p.stream_id = $2 and p.confirmed is not null))
returning before.rest;

-- name: end_break
-- The break of contact $1 on stream $2 is over; $3 how. Its gate is locked. Returns how many seconds it would
-- have lasted. No row: there is none.
with before as materialized (
  select extract(epoch from break_until - now())::float8 as rest
    from subscription
   where stream_id = $2 and contact_id = $1 and status = 'subscribed' and break_until > now()
)
update subscription
   set break_until = null, changed = now(), changed_by = $3
  from before
 where stream_id = $2 and contact_id = $1
returning before.rest;

-- name: stop_measuring
-- Contact $1 is not measured on streams $2. Those on which that is new. `changed` is of the
-- permission, which stays.
update subscription
   set tracking = 'none'
 where contact_id = $1 and stream_id = any($2::int[]) and tracking is distinct from 'none'
returning stream_id;

-- name: forget_origins
-- Of all that was heard of contact $1 on streams $2, or on none in particular, agent and network go. Its
-- gate is locked; events in their order. Plan: event_contact_idx.
with meant as materialized (
  select id
    from event
   where contact_id = $1 and (stream_id = any($2::int[]) or stream_id is null)
     and (data ? 'agent' or data ? 'network')
   order by id
     for no key update
)
update event e set data = e.data - 'agent' - 'network' from meant m where e.id = m.id;

-- name: subscribe
-- Contact $1 is subscribed to stream $2 by its own consent at $3, source $4. $5: how it may be
-- measured, null: as the stream says; who was not asked (not $6) keeps what was there.
-- Returns the contact's own mode before, null: none.
with before as materialized (
  select tracking::text from subscription where stream_id = $2 and contact_id = $1
)
insert into subscription (stream_id, contact_id, status, basis, source, consent_at, tracking, changed, changed_by)
values ($2, $1, 'subscribed', 'consent', $4, $3, $5::text::tracking_mode, $3, 'form')
on conflict (stream_id, contact_id) do update
  set status = 'subscribed', basis = 'consent', source = excluded.source, consent_at = excluded.consent_at,
      tracking = case when $6 then excluded.tracking else subscription.tracking end,
      break_until = null, changed = excluded.changed, changed_by = excluded.changed_by
returning (select tracking from before);

-- name: agreed_since
-- Whether contact $1 has agreed to stream $2 anew, by a confirmed form or an undo, after it left at $3.
-- Ten minutes after, for hosts' clocks differ, and in doubt the refusal counts.
select exists (
  select from subscription
   where stream_id = $2 and contact_id = $1 and status = 'subscribed'
     and (source like 'form:%' and consent_at between $3::timestamptz + interval '10 minutes' and now()
          or changed_by like '%, undone' and changed between $3::timestamptz + interval '10 minutes' and now()));
