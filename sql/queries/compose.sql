-- Streams, programs and their messages as files say them, and as mails need them.
-- mtad/compose/store.py.

-- name: lock_stream
-- The current version of stream $1, nobody else changing it until we commit.
-- NO KEY UPDATE: rows that refer to the stream may be written meanwhile.
select s.id, s.version, v.definition
  from stream s join stream_version v on v.stream_id = s.id and v.version = s.version
 where s.name = $1
   for no key update of s;

-- name: new_stream
-- Make stream $1 with version 1; no row when somebody made it meanwhile.
insert into stream (name, version) values ($1, 1)
    on conflict (name) do nothing
returning id;

-- name: set_stream_version
update stream set version = $2 where id = $1;

-- name: add_stream_version
-- Version $2 of stream $1: $3 is its definition, $4 who made it.
insert into stream_version (stream_id, version, definition, made_by) values ($1, $2, $3, $4);

-- name: raise_epoch
-- What concerns everybody has changed: verdicts made before are void. FOR UPDATE, because
-- begin holds the row FOR KEY SHARE, which a plain update would not wait for.
with locked as materialized (select one from epoch for update)
update epoch set version = version + 1 from locked where epoch.one = locked.one;

-- name: definitions_of_stream
-- What the programs of stream $1 that are not over do.
select v.definition
  from program p join program_version v on v.program_id = p.id and v.version = p.version
 where p.stream_id = $1 and p.status not in ('done', 'cancelled')
 order by p.id;

-- name: stream_by_name
select s.id, s.name, s.version, v.definition, v.made, v.made_by
  from stream s join stream_version v on v.stream_id = s.id and v.version = s.version
 where s.name = $1;

-- name: stream_history
-- Every version of stream $1, the newest first.
select s.name, v.version, v.definition, v.made, v.made_by
  from stream s join stream_version v on v.stream_id = s.id
 where s.name = $1
 order by v.version desc;

-- name: streams
-- Every stream with its definition, and how many are subscribed to it.
select s.id, s.name, s.version, v.definition, v.made, v.made_by,
       (select count(*) from subscription u where u.stream_id = s.id and u.status = 'subscribed')
  from stream s join stream_version v on v.stream_id = s.id and v.version = s.version
 order by s.name;

-- name: stream_names
select name from stream order by name;

-- name: attribute_types
-- Every attribute that some contact was imported with, and its type.
select name, type from attribute order by name;

-- name: lock_program
-- Program $1, nobody else starting, pausing or changing it until we commit.
select p.id, p.version, p.status::text, p.stream_id, v.definition
  from program p join program_version v on v.program_id = p.id and v.version = p.version
 where p.name = $1
   for update of p;

-- name: new_program
-- A draft, version 1; no row when somebody made it meanwhile.
-- $1 name, $2 kind, $3 stream, $4 class, $5 rank, $6 starts, $7 not after.
insert into program (name, kind, stream_id, class, rank, starts, not_after, version)
values ($1, $2::text::program_kind, $3, $4, $5, $6, $7, 1)
    on conflict (name) do nothing
returning id;

-- name: set_program_version
-- Program $1, locked by us, gets version $2; verdicts on the one before are void.
-- $3 kind, $4 stream, $5 class, $6 rank, $7 starts, $8 not after.
update program
   set version = $2, fence = fence + 1, kind = $3::text::program_kind, stream_id = $4, class = $5, rank = $6,
       starts = case when status = 'draft' or status = 'scheduled' and $7::timestamptz is not null then $7 else starts end,
       not_after = $8
 where id = $1;

-- name: hand_overs
-- Programs that are not over, nobody else naming them as `then` or `instead` until we commit.
select v.definition
  from (select pg_advisory_xact_lock(hashtext('mtad hand-overs'))) held
 cross join program p
  join program_version v on v.program_id = p.id and v.version = p.version
 where p.status not in ('done', 'cancelled')
 order by p.id;

-- name: standing
-- At which nodes of program $1 people stand, or have mail that did not begin, and how many.
select node, count(*)
  from (
    select node from entry where program_id = $1 and ended is null
     union all
    select m.node
      from job j
      join message m on m.id = j.message_id
     where j.program_id = $1 and j.entry_id is null and j.begun is null and j.doubts = 0
  ) x
 group by node
 order by node;

-- name: move_to_version
-- People on their way through program $1, and mail of it that did not begin, go on in version
-- $2. Nothing begins meanwhile: the caller holds the program's row against begin; what was
-- composed before is stale. Returns how many people, and how many mails, went.
with fenced as (
  update program set fence = fence + 1 where id = $1
), entries as materialized (
  select id, contact_id
    from entry
   where program_id = $1 and ended is null and version <> $2
   order by id
     for no key update
), jobs as materialized (
  select id, message_id
    from job
   where program_id = $1 and version <> $2 and begun is null and doubts = 0
     and (select count(*) from entries) >= 0
   order by id
     for no key update
), moved_jobs as (
  update job set version = $2, message_id = fresh.id
    from jobs
    join message old on old.id = jobs.message_id
    join message fresh on fresh.program_id = $1 and fresh.version = $2 and fresh.node = old.node and fresh.variant = ''
   where job.id = jobs.id
  returning job.id
), moved_entries as (
  update entry set version = $2
    from entries
   where entry.id = entries.id
     and not exists (
       select from job j
        where j.contact_id = entries.contact_id and j.entry_id = entries.id and (j.begun is not null or j.doubts > 0))
  returning entry.id
)
select (select count(*) from moved_entries), (select count(*) from moved_jobs);

-- name: add_program_version
-- Version $2 of program $1: $3 is its definition, $4 who made it.
insert into program_version (program_id, version, definition, made_by) values ($1, $2, $3, $4);

-- name: add_messages
-- The texts of version $2 of program $1: $3 nodes, $4 names, $5 parts as JSON, $6 whether there is a pixel.
insert into message (program_id, version, node, name, parts, pixel)
select $1, $2, node, name, parts::jsonb, pixel
  from unnest($3::text[], $4::text[], $5::text[], $6::bool[]) as m (node, name, parts, pixel)
returning node, id;

-- name: add_links
-- $1 messages, $2 positions (0 is the pixel), $3 addresses.
insert into message_link (message_id, position, url)
select * from unnest($1::int[], $2::smallint[], $3::text[]);

-- name: messages_of
-- The texts of version $2 of program $1. Returns Stored (mtad/compose/store.py).
select m.id, m.node, m.name, m.parts, m.pixel,
       coalesce((select array_agg(l.id order by l.position) from message_link l where l.message_id = m.id), '{}'),
       coalesce((select array_agg(l.position::int order by l.position)
                   from message_link l where l.message_id = m.id), '{}'),
       coalesce((select array_agg(l.url order by l.position) from message_link l where l.message_id = m.id), '{}')
  from message m
 where m.program_id = $1 and m.version = $2
 order by m.id;

-- name: messages
-- The texts with ids $1, as messages_of.
select m.id, m.node, m.name, m.parts, m.pixel,
       coalesce((select array_agg(l.id order by l.position) from message_link l where l.message_id = m.id), '{}'),
       coalesce((select array_agg(l.position::int order by l.position)
                   from message_link l where l.message_id = m.id), '{}'),
       coalesce((select array_agg(l.url order by l.position) from message_link l where l.message_id = m.id), '{}')
  from message m
 where m.id = any($1::int[])
 order by m.id;

-- name: programs
-- Every program, the newest first.
select p.id, p.name, p.kind::text, s.name, p.status::text, p.why, p.version, p.starts, p.not_after, p.created
  from program p join stream s on s.id = p.stream_id
 order by p.created desc, p.id desc;

-- name: program_versions
-- Program $1: ids and current versions of it and of its stream, and the epoch.
select p.id, p.version, p.class, p.stream_id, s.version, (select version from epoch)
  from program p join stream s on s.id = p.stream_id
 where p.name = $1;

-- name: contact_by_key
-- What a template may say of the contact with the address key $1.
select address, address_key, locale, zone, attributes from contact where address_key = $1 and not erased;
