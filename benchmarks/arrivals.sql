-- Jobs of contacts $1 at sites $2, due now, as a campaign $3 in the order of $1 brings them.
with made as materialized (
  select a.contact_id, a.site_id, nextval('job_id') as id
    from unnest($1::bigint[], $2::int[]) as a (contact_id, site_id)
), entered as (
  insert into enrolled (program_id, node, contact_id, job_id)
  select $3, 'arrival-' || id, contact_id, id from made
)
insert into job (id, contact_id, stream_id, program_id, version, message_id, site_id, class, prio, due, not_after)
select id, contact_id, 1, $3, 1, $3, site_id, 2, 4, now(), now() + interval '5 days' from made;
