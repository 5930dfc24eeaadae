-- Who wrote what in which transaction, in a throw-away database: benchmarks/race.py.
-- The commit time of a transaction is Postgres' own (track_commit_timestamp).

-- By what a fact names them: the 2,000 and the way in which each becomes ineligible.
create table race_key (key text not null, contact_id bigint not null, way text not null, primary key (key, contact_id));

create table race_begin (
  job_id bigint not null, contact_id bigint not null, program_id int not null, begun timestamptz not null, xid xid not null);

-- What disqualifies a contact; job_id: by the begin of this job. in_hand: a worker held mail
-- for it, judged or about to be, that had not begun.
create table race_fact (contact_id bigint not null, job_id bigint, xid xid not null, in_hand boolean not null);

-- $1 the word before, $2 the column with whom it is about.
create function race_fact() returns trigger language plpgsql as $$
begin
  insert into race_fact
  select k.contact_id, null, pg_current_xact_id()::xid,
         exists (select from job j where j.contact_id = k.contact_id and j.worker > 0 and j.begun is null)
    from race_key k
   where k.key = tg_argv[0] || (to_jsonb(new) ->> tg_argv[1]);
  return null;
end $$;

-- Of whom has one mail to come by the cap, a begin is what disqualifies the other one.
create function race_begin() returns trigger language plpgsql as $$
begin
  insert into race_begin values (new.id, new.contact_id, new.program_id, new.begun, pg_current_xact_id()::xid);
  insert into race_fact
  select k.contact_id, new.id, pg_current_xact_id()::xid,
         exists (select from job j
                  where j.contact_id = new.contact_id and j.id <> new.id and j.worker > 0 and j.begun is null)
    from race_key k
   where k.key = 'contact ' || new.contact_id and k.way = 'capped';
  return null;
end $$;

create trigger race after update of begun on job for each row
  when (new.begun is not null and new.begun is distinct from old.begun) execute function race_begin();
create trigger race after insert on suppression for each row execute function race_fact('', 'key');
create trigger race after update on subscription for each row
  when (new.status = 'unsubscribed') execute function race_fact('contact ', 'contact_id');
create trigger race after update on engagement for each row
  when (new.state = 'engaged') execute function race_fact('contact ', 'contact_id');
create trigger race after update on entry for each row
  when (new.ended is not null and old.ended is null) execute function race_fact('contact ', 'contact_id');
create trigger race after update on program for each row
  when (new.status in ('paused', 'cancelled')) execute function race_fact('program ', 'id');
create trigger race after update on contact for each row
  when (new.erased) execute function race_fact('contact ', 'id');
