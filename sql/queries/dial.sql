-- How many connections may be opened, over all workers. mtad/queue/dials.py.

-- name: take_dials
-- Somebody wants to open a connection of lanes $1, one each; of a lane there may be $2 a
-- second and $3 at once. GCRA with `dial_tat`, as in begin. Returns, in the order of the
-- wishes, the seconds to wait; 0: taken, go.
with wishes as materialized (
  select * from unnest($1::int[], $2::float8[], $3::float8[]) with ordinality as w (lane_id, rate, burst, number)
), lanes as materialized (
  select l.id, l.dial_tat
    from lane l
   where l.id in (select lane_id from wishes)
   order by l.id
     for no key update
), tick as materialized (
  select clock_timestamp() as at from (select count(*) from lanes) evaluated_last
), ranked as materialized (
  select w.number, w.lane_id, 1 / w.rate as every, w.burst, t.at,
         least(greatest(l.dial_tat, t.at), t.at + w.burst / w.rate * interval '1 s') as tat,
         row_number() over (partition by w.lane_id order by w.number) as rank
    from wishes w
    join lanes l on l.id = w.lane_id
   cross join tick t
), answered as materialized (
  select number, lane_id, every, tat,
         greatest(0, extract(epoch from tat - at) + (rank - burst) * every)::float8 as wait
    from ranked
), paid as (
  update lane set dial_tat = g.tat + g.n * g.every * interval '1 s'
    from (select lane_id, tat, every, count(*) as n from answered where wait = 0 group by lane_id, tat, every) g
   where lane.id = g.lane_id
)
select wait from answered order by number;
