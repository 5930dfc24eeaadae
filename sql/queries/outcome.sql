-- What outcomes mean over time. mtad/outcome/quota.py.

-- name: full_mailboxes
-- Up to 500 addresses whose mail was refused for a full mailbox $1 times or more, over $2 days
-- or more, since the last that was delivered and since they were last suppressed. With how
-- often, and since when. Plan: ledger_full_idx, and a look-up by contact for each of its rows.
select c.address_key, count(*), min(l.ended)
  from ledger l
  join contact c on c.id = l.contact_id and not c.erased
 where l.reason = 'QuotaIssues'
   and l.ended > coalesce((select max(greatest(s.created, least(s.until, s.released, now())))
                             from suppression s
                            where s.key = c.address_key), '-infinity')
   and not exists (select from ledger d
                    where d.contact_id = l.contact_id and d.outcome = 'delivered' and d.ended > l.ended)
 group by c.address_key
having count(*) >= $1::int and max(l.ended) - min(l.ended) >= $2::int * interval '1 day'
 order by c.address_key
 limit 500;
