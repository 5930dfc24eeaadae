-- A queue of any depth in an empty database, in one transaction: benchmarks/backlog.py.
-- backlog.rows jobs of backlog.contacts people over backlog.lanes lanes, of which the
-- first backlog.closed are closed and hold half of all jobs; in the open ones the newest
-- backlog.due jobs are due, the others later. backlog.seed makes it the same each time.
--
-- Contact 2k + 1 belongs to closed lane 1 + k % closed, contact 2k + 2 to open lane
-- closed + 1 + k % open; sites, domains and lanes have the same numbers. Job i is the mail
-- of contact 1 + (i - 1) % contacts in program 1 + (i - 1) / contacts: one campaign to
-- all after the other, each in the order of contacts, as enqueue writes them.

create temporary table size on commit drop as
  select current_setting('backlog.rows')::bigint as rows,
         current_setting('backlog.contacts')::bigint as contacts,
         current_setting('backlog.lanes')::int as lanes,
         current_setting('backlog.closed')::int as closed,
         current_setting('backlog.due')::bigint as due;

create function pg_temp.site_of(contact bigint, lanes int, closed int) returns int language sql immutable
  return case when contact % 2 = 1 then 1 + (contact - 1) / 2 % closed
              else closed + 1 + (contact - 1) / 2 % (lanes - closed) end;

-- Indexes are made after the rows; keys stay, for ids only rise.
create temporary table dropped on commit drop as
  select indexname, indexdef
    from pg_indexes
   where schemaname = 'public' and indexdef not like 'CREATE UNIQUE %'
     and tablename in ('job', 'contact', 'subscription', 'engagement');
do $$ declare i record; begin
  for i in select * from dropped loop execute format('drop index %I', i.indexname); end loop;
end $$;

select setseed(current_setting('backlog.seed')::float8);

insert into site (name, hosts)
  select format('s%s.example.net', n), array[format('10 s%s.example.net:25', n)]
    from size, generate_series(1, size.lanes) n;
insert into domain (name, site_id, resolve_at) select name, id, 'infinity' from site order by id;
insert into lane (site_id, rate, burst, sessions, closed_until, closed_why)
  select id, 1000000, 1000000, 10,
         case when id <= closed then now() + interval '1 year' else '-infinity' end,
         case when id <= closed then 'no answer' end
    from site, size order by id;

insert into contact (address, address_key, domain_id, locale, attributes)
  select 'p' || n || '@example.net', 'p' || n || '@example.net', pg_temp.site_of(n, size.lanes, size.closed), 'de-DE',
         jsonb_build_object('first_name', 'Ada', 'last_name', 'Person ' || n, 'city', 'Hamburg', 'country', 'DE',
                            'plan', 'basic', 'points', n % 1000, 'joined', '2024-05-06')
    from size, generate_series(1, size.contacts) n;
insert into gate (contact_id) select id from contact order by id;
insert into stream (name, version) values ('news', 1);
insert into stream_version (stream_id, version, definition, made_by) values (1, 1, '{"policy": {}, "tracking": "full"}', 'benchmark');
insert into subscription (stream_id, contact_id, status, basis, source, changed_by)
  select 1, id, 'subscribed', 'consent', 'benchmark', 'import' from contact order by id;
insert into engagement (stream_id, contact_id, since, round_from, first_sent)
  select 1, id, now() - interval '30 days', now() - interval '30 days', now() - interval '30 days'
    from contact order by id;

-- The last program is for what arrives while the queue is measured.
insert into program (name, kind, stream_id, class, status, version, enqueued)
  select 'letter-' || n, 'campaign', 1, 2, 'running', 1, now()
    from size, generate_series(1, 1 + (size.rows + size.contacts - 1) / size.contacts) n;
insert into program_version (program_id, version, definition, made_by)
  select id, 1, '{}', 'benchmark' from program order by id;
insert into message (program_id, version, node, name, parts, pixel)
  select id, 1, 'letter', 'letter', '{}', true from program order by id;

insert into enrolled (program_id, node, contact_id, job_id)
  select 1 + (i - 1) / size.contacts, 'letter', 1 + (i - 1) % size.contacts, i
    from size, generate_series(1, size.rows) i;
insert into job (id, contact_id, stream_id, program_id, version, message_id, site_id, class, prio, due, not_after)
  select j.job_id, j.contact_id, 1, j.program_id, 1, j.program_id,
         pg_temp.site_of(j.contact_id, size.lanes, size.closed), 2, 4,
         case when j.contact_id % 2 = 1 or j.job_id > size.rows - 2 * size.due
              then now() - interval '1 day' + j.program_id * interval '1 s'
              else now() + interval '1 day' + random() * interval '7 days' end,
         now() + interval '30 days'
    from enrolled j, size;
select setval('job_id', size.rows) from size;
select make_partitions();

do $$ declare i record; begin
  for i in select * from dropped loop execute i.indexdef; end loop;
end $$;
