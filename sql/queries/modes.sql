-- What tracking modes leave of hits: tracker/modes.py and mtad/ops. A contact's mode is its
-- own, or the stream's for those who were never asked; `none` where it cannot be known.

-- name: count_hits
-- Hits $1 (event ids) on links $2 at $3 by classes $4, in modes $5 (null: that of the link's stream): each
-- is counted once, however often it comes, in its hour; in mode hygiene in its day. It is known by an id
-- that says no more of its time. Plan: single-row look-ups by primary key.
with hit as materialized (
  select h.id, h.link_id, h.class::hit_class as class,
         date_trunc(case when coalesce(h.mode, v.definition ->> 'tracking') = 'aggregate' then 'hour' else 'day' end,
                    h.at, 'UTC') as hour
    from unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::text[], $5::text[]) as h (id, link_id, at, class, mode)
    left join message_link k on k.id = h.link_id and h.mode is null
    left join message m on m.id = k.message_id
    left join program p on p.id = m.program_id
    left join stream s on s.id = p.stream_id
    left join stream_version v on v.stream_id = s.id and v.version = s.version
), known as materialized (
  select link_id, hour, class,
         (lpad(to_hex((1000 * extract(epoch from hour))::bigint), 12, '0') || left(md5(id::text), 20))::uuid as id
    from hit
), fresh as (
  insert into hit_counted (event_id) select id from known order by id on conflict do nothing returning event_id
), summed as (
  select link_id, hour, class, count(*) as n from known join fresh f on f.event_id = known.id group by 1, 2, 3
)
insert into hit_count (link_id, hour, class, n)
select link_id, hour, class, n from summed order by link_id, hour, class
    on conflict (link_id, hour, class) do update set n = hit_count.n + excluded.n;

-- name: date_opens
-- Opens at $2 of the mails $1, that may be dated and no more: the day, when the mail had
-- arrived by then. Never an older day than is known. Locked in the order of contacts.
with open as (
  select l.stream_id, l.contact_id, max(o.at at time zone 'UTC')::date as day
    from unnest($1::bigint[], $2::timestamptz[]) as o (job_id, at)
    join ledger l on l.job_id = o.job_id and l.outcome = 'delivered' and l.ended <= o.at
   where l.contact_id is not null
   group by l.stream_id, l.contact_id
), newer as materialized (
  select u.stream_id, u.contact_id, o.day
    from open o
    join subscription u on u.stream_id = o.stream_id and u.contact_id = o.contact_id
   where u.last_open is null or u.last_open < o.day
   order by u.contact_id, u.stream_id
     for no key update of u
)
update subscription u set last_open = n.day
  from newer n
 where u.stream_id = n.stream_id and u.contact_id = n.contact_id and (u.last_open is null or u.last_open < n.day);

-- name: drop_hits
-- Hits $1 wait no more, and nothing more is kept of them. Only one sweep at a time comes here.
delete from pending where event_id = any($1::uuid[]);

-- name: modes_now
-- Of mails $1, and of contacts $2 who looked at a page of program $3 (0: not that): the
-- number of the question, whether ledger or queue know the mail, and the mode; null: erased.
select a.n::int, l.job_id is not null or j.id is not null or a.contact_id > 0 as known,
       case when c.id is not null then coalesce(u.tracking::text, v.definition ->> 'tracking', 'none') end
  from unnest($1::bigint[], $2::bigint[], $3::int[]) with ordinality as a (job_id, contact_id, program_id, n)
  left join lateral (select job_id, contact_id, stream_id from ledger where job_id = a.job_id) l on true
  left join lateral (
    select id, contact_id, stream_id from job where id = a.job_id and l.job_id is null offset 0) j on true
  left join lateral (select stream_id from program where id = a.program_id) p on true
  left join contact c on c.id = coalesce(l.contact_id, j.contact_id, nullif(a.contact_id, 0)) and not c.erased
  left join stream s on s.id = coalesce(l.stream_id, j.stream_id, p.stream_id)
  left join stream_version v on v.stream_id = s.id and v.version = s.version
  left join lateral (
    select tracking from subscription where stream_id = s.id and contact_id = c.id offset 0) u on true;
