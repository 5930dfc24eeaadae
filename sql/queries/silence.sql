-- What we hear from whom, by provider: engine/listening.py. Nobody but sweeps writes here.

-- name: know_stream
insert into brake (stream_id) values ($1) on conflict do nothing;

-- name: listened
-- Up to when the mail of stream $1 is counted; its row is locked.
select greatest(listened, '0001-01-01 UTC') from brake where stream_id = $1 for no key update;

-- name: count_signs
-- Of every fourth mail of stream $1 that came from $2 to before $3, in spans of $4 seconds: how
-- many were answered within such a span. Every fourth tells enough, and costs a quarter. Mail of
-- reactivations tells nothing: it goes to who was silent before.
-- Plan: ledger_sample_idx, then look-ups by primary keys.
insert into provider_signs as s (stream_id, provider, at, mails, answered)
select $1, r.provider, to_timestamp(floor(extract(epoch from l.ended)::float8 / $4::float8) * $4::float8),
       count(*), count(*) filter (where a.answered)
  from ledger l
 cross join lateral (select from message where id = l.message_id and pixel offset 0) m
 cross join lateral (select from program where id = l.program_id and class > 0 and kind <> 'reactivation' offset 0) p
 cross join lateral (select provider from lane where site_id = l.site_id limit 1) r
 cross join lateral (
   select exists (
     select from answer
      where job_id = l.job_id and at <= l.ended + $4::float8 * interval '1 s') as answered) a
 where l.stream_id = $1 and l.ended >= $2 and l.ended < $3
   and l.outcome = 'delivered' and l.job_id % 4 = 0 and l.contact_id is not null
 group by 2, 3
 order by 2, 3
on conflict (stream_id, provider, at) do update
  set mails = s.mails + excluded.mails, answered = s.answered + excluded.answered;

-- name: noticed
-- Whether anybody, or any machine, asked for what stands in mail of streams $1 from $2 to before $3.
-- Plan: a piece of the primary key of event, to the first that is found; where there is none of these
-- streams that is all of it, so it is asked once a half window where no mail was answered, and of an
-- hour, for all streams of one address together, where the probe never had an answer.
select exists (
  select
    from event
   where id >= (lpad(to_hex(floor(1000 * extract(epoch from $2::timestamptz))::bigint), 12, '0') || repeat('0', 20))::uuid
     and id < (lpad(to_hex(floor(1000 * extract(epoch from $3::timestamptz))::bigint), 12, '0') || repeat('0', 20))::uuid
     and stream_id = any($1::int[]) and kind in ('open', 'click'));

-- name: forget_signs
-- Of stream $1, what is older than $2.
delete from provider_signs where stream_id = $1 and at < $2;

-- name: signs_of
select provider, at, mails, answered from provider_signs where stream_id = $1 order by provider, at;

-- name: set_listened
update brake set listened = $2 where stream_id = $1;

-- name: open_holds
-- Holds of stream $1 (null: of all): stream, provider, since when, and why.
select s.name, h.provider, h.since, h.why
  from provider_hold h
  join stream s on s.id = h.stream_id
 where h.lifted is null and ($1::int is null or h.stream_id = $1)
 order by s.name, h.provider;

-- name: hold
-- Provider $2 of stream $1 is held since $3, up to $4 at least, because of $5 ('': as it was).
insert into provider_hold as h (stream_id, provider, since, until, why)
values ($1, $2, $3, $4, $5)
on conflict (stream_id, provider, since) do update
  set until = excluded.until, why = coalesce(nullif(excluded.why, ''), h.why), lifted = null;

-- name: recall
-- Of stream $1, at provider $2 ('*': at any), whoever had a window closed, or was paused, after $3 is to be replayed.
insert into recall (stream_id, provider, since) values ($1, $2, $3) on conflict do nothing;

-- name: next_recall
-- What is to be replayed of stream $1: provider, since when, behind which contact; locked.
select provider, since, done from recall where stream_id = $1 order by provider, since limit 1
   for no key update skip locked;

-- name: recall_page
-- Of the next 5,000 contacts of stream $1 behind $4, at provider $2: have the sweep replay those of whom anything
-- was concluded after $3. Returns the last contact, null where there are no more.
-- Plan: a range of the primary key.
with page as materialized (
  select contact_id from engagement where stream_id = $1 and contact_id > $4 order by contact_id limit 5000
), late as materialized (
  select e.contact_id
    from page
    join engagement e on e.stream_id = $1 and e.contact_id = page.contact_id
   where e.told > $3 and (e.ignored + e.unclear > 0 or e.state = 'cooling')
     and ($2 = '*' or exists (
       select
         from contact c
         join domain d on d.id = c.domain_id
         join lateral (select provider from lane where site_id = d.site_id limit 1) r on true
        where c.id = e.contact_id and r.provider = $2))
   order by e.contact_id
     for no key update of e
), woken as (
  update engagement e
     set held = least(e.held, $3), wake_at = least(e.wake_at, $3)
    from late
   where e.stream_id = $1 and e.contact_id = late.contact_id
)
select max(contact_id) from page;

-- name: recalled
-- Of stream $1, provider $2, since $3: all up to contact $4, or (null) all there are.
with gone as (
  delete from recall where stream_id = $1 and provider = $2 and since = $3 and $4::bigint is null
)
update recall set done = $4 where stream_id = $1 and provider = $2 and since = $3 and $4::bigint is not null;

-- name: lift
update provider_hold set lifted = now() where stream_id = $1 and provider = $2 and lifted is null;

-- name: held_after
-- Whether any hold lasted beyond $1.
select exists (select from provider_hold where until > $1);

-- name: holds_over
-- Holds that lasted beyond $3 at the providers of contacts $2, or of everybody ('*'), on streams $1: from, to.
-- Plan: mostly there are none at all, and then nothing else is read.
select a.stream_id, a.contact_id, h.since, h.until
  from unnest($1::int[], $2::bigint[]) as a (stream_id, contact_id)
  join contact c on c.id = a.contact_id
  join domain d on d.id = c.domain_id
  left join lateral (select provider from lane where site_id = d.site_id limit 1) r on true
  join provider_hold h on h.stream_id = a.stream_id and h.provider in (r.provider, '*') and h.until > $3
 where exists (select from provider_hold where until > $3);
