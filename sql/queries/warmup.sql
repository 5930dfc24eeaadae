-- Sources that are being warmed up: how much of a day's plan is taken. mtad/queue/warmup.py.

-- name: grant_mails
-- Worker wants $4 further mails by source $1 to provider $2 on day $3 (below 0: gives so
-- many back), and $5 were refused because of us. Returns how many it gets, and whether there
-- is no limit (least() passes over a null). No row: the day has not been opened.
with open_day as materialized (
  select * from warmup where source = $1 and provider = $2 and day = $3 for no key update
)
update warmup w
   set granted = w.granted + least($4::int, w.allowed - w.granted), deferred = w.deferred + $5::int
  from open_day d
 where w.source = d.source and w.provider = d.provider and w.day = d.day
returning least($4::int, d.allowed - d.granted) as granted, d.allowed is null as free;

-- name: last_day
-- The last day before $3 on which source $1 sent to provider $2, with the complaints since
-- then of people to whom it had delivered. Plan: suppression_complained_idx, ledger_contact_idx.
select w.step, w.allowed, w.granted, w.deferred,
       (select count(*)
          from suppression s
          join contact c on c.address_key = s.key
         where s.reason = 'complained' and s.created >= w.day
           and exists (select
                         from ledger l
                         join lane a on a.site_id = l.site_id and a.source = l.source
                        where l.contact_id = c.id and l.source = $1 and a.provider = $2 and l.outcome = 'delivered'))
  from warmup w
 where w.source = $1 and w.provider = $2 and w.day < $3 and w.granted > 0
 order by w.day desc
 limit 1;

-- name: open_day
-- Day $3 of source $1 at provider $2: step $4 of the plan, $5 mails (null: no limit), $6
-- complaints about the day before, held back because $7. Another worker may have been first.
insert into warmup (source, provider, day, step, allowed, complaints, held)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict do nothing;

-- name: warmup_days
-- The last day of each source and provider.
select distinct on (source, provider) source, provider, day, step, allowed, granted, deferred, complaints, held
  from warmup
 order by source, provider, day desc;
